"""Decides about shares and publishes what was decided."""
