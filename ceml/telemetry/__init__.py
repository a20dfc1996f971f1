"""Eyes: subscribers of the bus, nothing else."""
