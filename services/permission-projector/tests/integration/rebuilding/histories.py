"""Random records of all topics."""

import random
from collections import defaultdict
from typing import Any
from uuid import UUID

from installation import NOW, Place, bytes_of, device

from contracts import topics
from contracts.base import new_id
from contracts.directory import AccountSnapshot, ContactSnapshot
from contracts.events import (
    AnyShareEvent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, SomeServices, Terms


class Histories:
    """Random records of all topics: mostly what a healthy installation writes, now and then a fault."""

    def __init__(self, place: Place, seed: int) -> None:
        self._place, self._dice = place, random.Random(seed)
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._states: dict[tuple[str, int], tuple[UUID, UUID, str]] = {}
        self._sent: defaultdict[str, list[bytes]] = defaultdict(list)

    async def write(self, count: int) -> None:
        for _ in range(count):
            await self._dice.choices(
                (self._event, self._again, self._fault, self._device, self._account, self._contact),
                (80, 8, 0.5, 4, 4, 4),
            )[0]()
        await self._place.sent()

    def _some_device(self) -> str:
        return f"device-{self._dice.randrange(60)}"

    async def _event(self) -> None:
        device_id, contact = self._some_device(), self._dice.randrange(4)
        share, contact_id, state = self._states.get((device_id, contact), (new_id(), new_id(), "none"))
        who: dict[str, Any] = {
            "share_id": share, "device_id": device_id, "contact_id": contact_id, "owner_account_id": "olga",
        }  # fmt: skip
        account = f"account-{contact}"
        scope = self._dice.choice((AllServices(), SomeServices(services={f"{device_id}-0": "all"})))
        terms = Terms(scope=scope, scripting=self._dice.random() < 0.5)
        event: AnyShareEvent
        if state == "requested":
            event, state = self._dice.choice(
                (
                    (ShareAccepted(**who, account_id=account), "active"),
                    (ShareRejected(**who, account_id=account), "ended"),
                    (ShareChanged(**who, state="requested", terms=terms), "requested"),
                )
            )
        elif state == "active":
            event, state = self._dice.choice(
                (
                    (ShareChanged(**who, state="active", terms=terms), "active"),
                    (ShareRevoked(**who, reason=RevokeReason.BY_OWNER), "ended"),
                    (ShareLeft(**who, account_id=account), "ended"),
                )
            )
        else:
            event, state = ShareRequested(**who, terms=terms, expires_at=NOW), "requested"
        self._states[device_id, contact] = share, contact_id, state
        self._versions[device_id] += 1
        self._sent[device_id].append(await self._place.event(event, self._versions[device_id]))

    async def _again(self) -> None:
        device_id = self._some_device()
        if self._sent[device_id]:
            await self._place.raw(topics.SHARE_EVENTS, device_id, self._dice.choice(self._sent[device_id]))

    async def _fault(self) -> None:
        device_id = self._some_device()
        await self._dice.choice(
            (
                lambda: self._place.raw(topics.SHARE_EVENTS, device_id, b'{"half":'),
                lambda: self._place.raw(topics.SHARE_EVENTS, device_id, None),
                lambda: self._place.raw(topics.DIRECTORY_DEVICES, device_id, b"{}"),
                lambda: self._place.raw(topics.DIRECTORY_ACCOUNTS, "account-1", b"null"),
                lambda: self._gap(device_id),
            )
        )()

    async def _gap(self, device_id: str) -> None:
        self._versions[device_id] += 1

    async def _device(self) -> None:
        device_id = self._some_device()
        if self._dice.random() < 0.2:
            await self._place.raw(topics.DIRECTORY_DEVICES, device_id, None)
        else:
            owner, services = self._dice.choice(("olga", "otto")), self._dice.randrange(4)
            value = bytes_of(device(device_id, owner, services, f"Camera {self._dice.randrange(9)}"))
            await self._place.raw(topics.DIRECTORY_DEVICES, device_id, value)

    async def _account(self) -> None:
        account = f"account-{self._dice.randrange(6)}"
        if self._dice.random() < 0.2:
            await self._place.raw(topics.DIRECTORY_ACCOUNTS, account, None)
        else:
            emails = tuple(f"{account}-{number}@example.com" for number in range(self._dice.randrange(3)))
            snapshot = AccountSnapshot(account_id=account, name=account.title(), verified_emails=emails)
            await self._place.raw(topics.DIRECTORY_ACCOUNTS, account, bytes_of(snapshot))

    async def _contact(self) -> None:
        contact = UUID(int=self._dice.randrange(20))
        if self._dice.random() < 0.2:
            await self._place.raw(topics.DIRECTORY_CONTACTS, str(contact), None)
        else:
            snapshot = ContactSnapshot(contact_id=contact, address="mailto:ann@example.com")
            await self._place.raw(topics.DIRECTORY_CONTACTS, str(contact), bytes_of(snapshot))
