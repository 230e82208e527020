"""What connections at a port leave: events, log lines and counts, made for less than what relaying costs."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from access_gateway import metrics
from access_gateway.audit import Audit
from access_gateway.policy import AccessRequest, ServiceAccess
from contracts.base import new_id_text
from contracts.events import ConnectionClosed, ConnectionOpened
from contracts.permissions import Permission
from servicekit import logging

_FIGURES = ("bytes_to_device", "bytes_from_device", "seconds")


class Forms:
    """Events and lines of connections that are granted the same, with blanks for ids, times and figures.

    The correlation id in them is that of the work at hand when they are made.
    """

    __slots__ = ("closed", "decided", "ended", "event", "opened")

    def __init__(self, audit: Audit, opened: ConnectionOpened, decided: Mapping[str, object]) -> None:
        closed = ConnectionClosed(**opened.model_dump(), bytes_to_device=0, bytes_from_device=0, seconds=0)
        self.event = opened
        """That the first byte may flow, of a connection of another id."""
        self.opened = audit.mold(opened, texts=("connection_id",))
        self.closed = audit.mold(closed, texts=("connection_id",), numbers=_FIGURES)
        self.decided = logging.mold(
            "access_decided", decided, texts=("connection_id",), numbers=("staleness_seconds",)
        )
        self.ended = logging.mold(
            "connection_ended",
            ended_line(opened, None),
            texts=("connection_id",),
            numbers=("seconds",),
        )


def opened_event(
    connection_id: UUID,
    request: AccessRequest,
    access: ServiceAccess,
    permission: Permission,
    *,
    way: str,
    gateway_id: str,
) -> ConnectionOpened:
    """That the first byte may flow, for this function of what is granted."""
    return ConnectionOpened(
        connection_id=connection_id,
        gateway_id=gateway_id,
        account_id=request.account_id,
        service_id=access.service_id,
        device_id=access.device_id,
        permission=permission,
        share_id=access.functions.get(permission),
        device_version=access.device_version,
        way=way,
    )


def ended_line(opened: ConnectionOpened, reason: str | None) -> dict[str, object]:
    """The fields of the line about a connection's end, but for its id and how long it took."""
    return {
        "device_id": opened.device_id,
        "service_id": opened.service_id,
        "way": opened.way,
        "reason": reason,
    }


class Journal:
    """Fills in forms. Lines and counts are written once a turn of the loop."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._lines: list[str] = []
        self._scheduled = False
        self._time = ""
        self._decided = self._opened = self._closed = self._to_device = self._from_device = 0

    def decided(self, forms: Forms, connection_id: str, age: float) -> None:
        """Access was found."""
        self._decided += 1
        self._soon()
        values = {
            "timestamp": self._now(),
            "connection_id": connection_id,
            "staleness_seconds": round(age, 3),
        }
        self._lines.append(forms.decided % values)

    def opened(self, forms: Forms, connection_id: str) -> None:
        """The first byte may flow."""
        self._opened += 1
        self._soon()
        values = {"id": new_id_text(), "time": self._now(), "connection_id": connection_id}
        self._audit.put(forms.event.device_id, forms.opened % values)

    def closed(
        self, forms: Forms, connection_id: str, *, to_device: int, from_device: int, seconds: float
    ) -> None:
        """It has ended, and was not cut."""
        self._closed += 1
        self._soon()
        self._to_device += to_device
        self._from_device += from_device
        now = self._now()
        values = {
            "id": new_id_text(),
            "time": now,
            "timestamp": now,
            "connection_id": connection_id,
            "bytes_to_device": to_device,
            "bytes_from_device": from_device,
            "seconds": round(seconds, 6),
        }
        self._audit.put(forms.event.device_id, forms.closed % values)
        self._lines.append(forms.ended % values)

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self._time = ""
        lines, self._lines = self._lines, []
        logging.write("".join(lines))
        metrics.ALLOWED.inc(self._decided)
        metrics.OPENED.inc(self._opened)
        metrics.OPEN_CONNECTIONS.inc(self._opened - self._closed)
        metrics.BYTES_TO_DEVICE.inc(self._to_device)
        metrics.BYTES_FROM_DEVICE.inc(self._from_device)
        self._decided = self._opened = self._closed = self._to_device = self._from_device = 0

    def _now(self) -> str:
        if not self._time:
            # Once a turn, and not by way of an aware datetime, which takes four times as long.
            self._time = datetime.now(UTC).replace(tzinfo=None).isoformat() + "Z"
        return self._time
