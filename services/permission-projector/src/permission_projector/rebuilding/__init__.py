"""Generations built beside the live one: filled, compared, swapped in; devices released from quarantine."""
