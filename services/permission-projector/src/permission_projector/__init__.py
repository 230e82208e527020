"""Builds the permission read models and serves them."""
