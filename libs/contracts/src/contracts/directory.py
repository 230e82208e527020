"""Whole snapshots of what others own: devices and accounts (upstream), contacts (share-command).

Topics ``directory.*`` are compacted: the newest value of a key holds, a null value deletes.
"""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.base import AccountId, Fact, Id
from contracts.permissions import Permission, Permissions


class Target(Fact):
    """Where the gateway reaches a service: a host name or address, and a TCP port."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)]


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


class ContactSnapshot(Fact):
    """The address behind an opaque contact id, in canonical form (``mailto:…``)."""

    contact_id: UUID
    address: str


AnyDirectorySnapshot = DeviceSnapshot | AccountSnapshot | ContactSnapshot
