"""Figures: what each one means, once."""
