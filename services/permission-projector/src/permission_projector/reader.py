"""What the read API tells an account: one statement an answer, and who may see what is in its SQL."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.contacts import display_address
from contracts.permissions import Permission, Terms
from contracts.positions import Position
from permission_projector.projection import ShareState
from servicekit import pg

Order = Literal["name", "-name", "created", "-created"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Person(_Answer):
    """An account as others see it. ``email`` is its first verified address; both may be unknown here."""

    account_id: str
    name: str | None
    email: str | None


class ServiceAnswer(_Answer):
    """A service and the permissions that the caller has on it."""

    service_id: str
    name: str
    protocol: str
    channel: int | None
    permissions: list[Permission]


class Access(_Answer):
    """A share of the device. ``account_id`` is set once accepted; ``since`` is when its state began."""

    share_id: UUID
    state: ShareState
    account_id: str | None
    email: str | None
    terms: Terms
    since: datetime


class Device(_Answer):
    """A device of the caller, or one shared with him. ``access`` is everybody's for the owner, else his own.

    ``share_state``: ``out`` the caller shares it, ``in`` it is shared with him, ``both``, ``none``.
    """

    device_id: str
    name: str
    kind: str
    created_at: datetime | None
    owner: Person
    owned: bool
    share_state: Literal["none", "in", "out", "both"]
    scripting: bool
    services: list[ServiceAnswer]
    access: list[Access]


class DevicePage(_Answer):
    """One page; ``total`` counts all that match, ``hasMore`` tells whether some come after this page."""

    items: list[Device]
    total: int
    hasMore: bool


class Invitation(_Answer):
    """A share that the caller may accept. Accepting names ``invitation_version``.

    ``service_names`` are those of the services that ``terms`` name, by id; of others the caller learns none.
    """

    share_id: UUID
    device_id: str
    device_name: str
    owner: Person
    terms: Terms
    service_names: dict[str, str]
    invitation_version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which of the visible devices, and in what order. None means any."""

    ids: Sequence[str] | None = None
    name: str | None = None
    owned: bool | None = None
    sort: Order = "name"
    size: int = 100
    start: int = 0


class Reader:
    """Answers from the read models, each with the positions of the devices that it is about."""

    def __init__(self, pool: pg.Pool, sql: dict[str, str]) -> None:
        self._pool, self._sql = pool, sql

    async def me(self, account_id: str) -> Person:
        """The caller himself; name and address are None while the directory has not told of him."""
        row = await self._pool.fetchrow(self._sql["me"], account_id)
        assert row is not None
        return Person(account_id=account_id, name=row["name"], email=_email(row["address"]))

    async def devices(self, account_id: str, asked: DeviceFilter) -> tuple[DevicePage, list[Position]]:
        """The caller's own devices and those shared with him."""
        ids = None if asked.ids is None else list(asked.ids)
        row = await self._pool.fetchrow(
            self._sql["devices"],
            account_id, ids, asked.name, asked.owned, asked.sort, asked.size, asked.start,
        )  # fmt: skip
        assert row is not None
        found: list[dict[str, Any]] = json.loads(row["items"])
        page = DevicePage(
            items=[_device(item) for item in found],
            total=row["total"],
            hasMore=asked.start + len(found) < row["total"],
        )
        return page, [Position(item["device_id"], item["version"]) for item in found]

    async def invitations(self, account_id: str) -> tuple[list[Invitation], list[Position]]:
        """Shares that wait for an address which the caller has verified, newest first."""
        rows = await self._pool.fetch(self._sql["invitations"], account_id)
        answers = [
            Invitation(
                share_id=row["share_id"],
                device_id=row["device_id"],
                device_name=row["device_name"],
                owner=Person(
                    account_id=row["owner_account_id"],
                    name=row["owner_name"],
                    email=_email(row["owner_address"]),
                ),
                terms=Terms.model_validate_json(row["terms"]),
                service_names=json.loads(row["service_names"]),
                invitation_version=row["invitation_version"],
                created_at=row["requested_at"],
            )
            for row in rows
        ]
        positions = dict.fromkeys(Position(row["device_id"], row["version"]) for row in rows)
        return answers, list(positions)

    async def alive(self) -> None:
        """A `servicekit.http.ReadyCheck`: the read models are there."""
        if await self._pool.fetchval(self._sql["alive"]) is None:
            raise RuntimeError("there is no live generation")


def _device(item: dict[str, Any]) -> Device:
    shared = "out" if item["access"] else "none"
    return Device.model_validate(
        {
            **item,
            "owner": _with_email(item["owner"]),
            "access": [_with_email(entry) for entry in item["access"]],
            "share_state": shared if item["owned"] else "in",
        }
    )


def _with_email(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "email": _email(item["address"])}


def _email(address: str | None) -> str | None:
    return None if address is None else display_address(address)
