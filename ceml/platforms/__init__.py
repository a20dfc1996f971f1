"""Machines: each a bundle of sensors and actuators; they never import each other."""
