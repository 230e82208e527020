"""Hints that a device came or went, or that a connection began or ended, for those who follow.

They travel as payloads of `NOTIFY device_activity`, in the transaction that stores what they are about.
Presence and connections belong to no generation, so that no place in the change feed stands for them: whoever
was not listening reads again.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

CHANNEL: Final = "device_activity"

_DEVICES_OF_A_PAYLOAD, _CONNECTIONS_OF_A_PAYLOAD = 100, 30
"""So many fit into the 8,000 bytes of a payload, with ids as long as they may be."""

_MOST: Final = 5_000
"""Of each kind between two looks; with more, everybody is told to read again."""

_Payload = tuple[list[str], list[tuple[str, str]]]
_PAYLOAD: Final = TypeAdapter[_Payload](_Payload)


def payloads(devices: Collection[str], connections: Collection[tuple[str, str]]) -> Iterator[str]:
    """Devices that came or went, and connections that began or ended (device and account), as payloads."""
    moved, used = iter(sorted(devices)), iter(sorted(connections))
    while part := list(islice(moved, _DEVICES_OF_A_PAYLOAD)):
        yield to_json((part, [])).decode()
    while pairs := list(islice(used, _CONNECTIONS_OF_A_PAYLOAD)):
        yield to_json(([], pairs)).decode()


@dataclass(slots=True)
class Hints:
    """What was heard since somebody looked. ``missed``: nobody knows what."""

    devices: set[str] = field(default_factory=set[str])
    connections: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    missed: bool = False

    def add(self, payload: str | None) -> None:
        """A payload; None: some may have come while nobody listened."""
        try:
            devices, connections = ([], []) if payload is None else _PAYLOAD.validate_json(payload)
        except ValidationError:  # of another release
            payload, devices, connections = None, [], []
        self.devices.update(devices)
        self.connections.update(connections)
        if payload is None or max(len(self.devices), len(self.connections)) > _MOST:
            self.missed = True
        if self.missed:
            self.devices.clear()
            self.connections.clear()
