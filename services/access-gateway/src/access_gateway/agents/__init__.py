"""Devices behind a NAT: their agents dial out to the gateway, which reaches the services through them."""
