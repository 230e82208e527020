"""Relays connections that the projected grants allow, and cuts them when they no longer do."""
