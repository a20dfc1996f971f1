"""What people look at live: they see what the control socket tells, and ask for changes as it is asked."""
