"""Verbs for the people who run an installation; docs/ops/README.md explains each."""
