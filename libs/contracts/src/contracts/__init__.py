"""What all Latchkey services mean by a share: events, commands, directory snapshots, permissions.

Pydantic models and pure functions only; nothing here performs input or output.
"""
