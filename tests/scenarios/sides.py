"""What both sides of a scenario, the pure core and the real stack, can be told and asked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from scenario import DeviceFacts, Private, Step, Verdict

from contracts.events import AnyShareEvent


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an act at once."""

    refused: str | None = None
    outcomes: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    would: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All lists, in the file's names; those of both sides must be equal."""

    states: Mapping[str, Mapping[str, str]]
    access: Mapping[str, Mapping[str, Sequence[str]]]
    notices: Mapping[str, Sequence[str]]
    listed: Mapping[str, Mapping[str, Any]]
    books: Mapping[str, Mapping[str, str | None]]
    messages: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, in the file's names."""

    device: str
    version: int
    address: str
    name: str
    about: str
    time: datetime


def happened(device: str, version: int, address: str, event: AnyShareEvent, time: datetime) -> Happened:
    """``about`` is what an event says but for the ids that each side makes of its own."""
    said = event.model_dump(mode="json", exclude={"share_id", "contact_id", "device_id"})
    return Happened(device, version, address, type(event).__name__, json.dumps(said, sort_keys=True), time)


class Side(Protocol):
    """One of the two. Names are the file's."""

    async def begin(self, accounts: Mapping[str, Sequence[str]], devices: Mapping[str, DeviceFacts]) -> None:
        """Make the world."""
        ...

    async def act(self, step: Step) -> Done:
        """Do what the step says; all that follows from it has happened when this returns."""
        ...

    async def wait(self, seconds: timedelta) -> None:
        """Let time pass."""
        ...

    async def events(self) -> list[Happened]:
        """Those of the last step, by device and version."""
        ...

    async def snapshot(self) -> Snapshot:
        """All lists now."""
        ...

    async def verdict(self, verdict: Verdict) -> bool:
        """Whether it is allowed."""
        ...

    async def reveals(self, private: Private) -> list[str]:
        """Where the text can be found by anybody but its owner."""
        ...
