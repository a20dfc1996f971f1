"""What outlives us: plain files, versioned, replaced atomically."""
