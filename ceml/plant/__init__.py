"""A board as equations or as a measured table: the one plant model for platforms, simulated program, bench, tests."""
