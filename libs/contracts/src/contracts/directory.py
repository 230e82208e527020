"""Whole snapshots of what others own: devices and accounts (upstream), contacts (share-command), and whether
a device is connected (gateways).

Topics ``directory.*`` are compacted: the newest value of a key holds, a null value deletes.
"""

from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from contracts.base import AccountId, Fact, Id
from contracts.permissions import Permission, Permissions


class Target(Fact):
    """Where the gateway reaches a service: a host name or address, and a TCP port."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)]


def _only_the_channel(template: str) -> str:
    if "{" in (rest := template.replace(CHANNEL, "")) or "}" in rest:
        raise ValueError(f"the only placeholder is {CHANNEL}")
    return template


CHANNEL = "{channel}"
"""Stands, in a `StreamPath`, for the number of the service's channel."""

StreamPath = Annotated[
    str,
    StringConstraints(pattern=r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?{}-]*$", max_length=500),
    AfterValidator(_only_the_channel),
]
"""Path and query of an RTSP address, as the camera's maker defines them; `CHANNEL` may stand in it."""


class StreamPaths(Fact):
    """Where a camera has its streams: ``rtsp://<target><path>``.

    ``recording``: where its recordings are played (a maker's tracks path, or ONVIF's replay address), if it
    has an address for them. It may be that of ``live``: then only a request with a time plays a recording.
    """

    live: StreamPath = "/"
    recording: StreamPath | None = None


class Service(Fact):
    """One service of a device. ``channel`` numbers the cameras of a recorder, from 1."""

    service_id: Id
    name: str
    protocol: str
    """``tcp``, ``ssh``, ``http``, ``rtsp``, …"""
    target: Target
    channel: int | None = None
    permissions: Permissions = frozenset({Permission.CONNECT})
    """What the service supports."""
    stream: StreamPaths | None = None
    """Of a camera's stream only. Absent: its live picture is at ``/``, and recordings have no address."""

    @model_validator(mode="after")
    def _has_the_channel_that_its_paths_name(self) -> Self:
        paths = [] if self.stream is None else [self.stream.live, self.stream.recording or ""]
        if self.channel is None and any(CHANNEL in path for path in paths):
            raise ValueError(f"a path with {CHANNEL} needs the number of the channel")
        return self


class DeviceSnapshot(Fact):
    """A device as its registry knows it."""

    device_id: Id
    owner_account_id: AccountId
    name: str
    kind: str
    """``computer``, ``camera``, ``recorder``, ``alarm_panel``, …"""
    services: tuple[Service, ...] = ()
    created_at: AwareDatetime | None = None


class AccountSnapshot(Fact):
    """An account with the addresses that it has proved to be its own."""

    account_id: AccountId
    name: str
    verified_emails: tuple[str, ...] = ()
    verified_phones: tuple[str, ...] = ()
    """Telephone numbers in E.164, with the country code: ``+4915112345678``."""


class ContactSnapshot(Fact):
    """The address behind an opaque contact id, in canonical form (``mailto:…`` or ``tel:+…``)."""

    contact_id: UUID
    address: str


class PresenceSnapshot(Fact):
    """Whether a device is connected to a gateway, and since when it is so.

    The snapshot with the latest ``since`` holds, also when another gateway tells of an earlier time after it.
    """

    device_id: Id
    online: bool
    since: AwareDatetime
    gateway_id: str


AnyDirectorySnapshot = DeviceSnapshot | AccountSnapshot | ContactSnapshot | PresenceSnapshot
