"""How rate and power answer to knobs: one model a file."""
