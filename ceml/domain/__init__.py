"""Ground floor: nouns and numbers. It neither waits, reads, writes nor looks at the clock."""
