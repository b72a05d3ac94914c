"""Simulation of large federations with scoop's own compiled machines."""
