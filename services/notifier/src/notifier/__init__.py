"""Tells people what happened to their shares."""
