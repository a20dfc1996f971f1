"""Objectives shipped with the house; each plugin is one formula."""
