"""A scenario on the pure cores alone: no database, no broker, no server, a clock that is a variable."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from acting import (
    START,
    Known,
    Names,
    moment,
    plain,
    plain_services,
    scope_of,
    shown,
    to_bulk,
    to_command,
)
from model import Entry, Item, Model, device_of
from projected import Projected
from scenario import DeviceFacts, LimitsOf, Note, Private, Rule, Scan, ShowCode, Step, Verdict
from sides import Done, Happened, Snapshot, happened

from contracts.contacts import canonical_address, display_address, is_phone
from contracts.permissions import Permission, Terms
from notifier.planner import INVITING
from permission_projector.projection import ShareState
from share_command.errors import ShareCommandError


class PureSide:
    """A `sides.Side`."""

    def __init__(self, names: Names, limits: LimitsOf) -> None:
        self._names = names
        self._model = Model(
            shares_per_device=limits.shares_per_device, shares_per_owner=limits.shares_per_owner
        )
        self._projected = Projected()
        self._now: datetime = START
        self._codes: dict[str, str] = {}
        self._accounts: list[str] = []
        self._devices: list[str] = []
        self._last: list[Entry] = []

    async def begin(self, accounts: Mapping[str, Sequence[str]], devices: Mapping[str, DeviceFacts]) -> None:
        for account, addresses in accounts.items():
            self._set_account(account, addresses)
        for device, facts in devices.items():
            self._set_device(device, facts)

    async def act(self, step: Step) -> Done:
        seen = len(self._model.log)
        try:
            done = self._do(step)
        except ShareCommandError as error:
            done = Done(refused=error.code)
        self._take(seen)
        return done

    async def wait(self, seconds: timedelta) -> None:
        seen = len(self._model.log)
        self._now += seconds
        self._model.end_overdue(self._now)
        self._take(seen)

    def _take(self, seen: int) -> None:
        self._last = self._model.log[seen:]
        self._projected.apply(self._last)

    def _do(self, step: Step) -> Done:
        model, names = self._model, self._names
        if step.is_command:
            model.handle(to_command(step.order, names, self._look, model.contacts.get), self._now)
        elif step.bulk is not None:
            order = to_bulk(step.bulk, names, model.contacts.get)
            written = names.recipients(step.bulk.to, model.contacts.get)
            outcomes: dict[str, dict[str, str]] = {}
            for item in model.bulk(order, self._now):
                assert item.recipient is not None
                mine = outcomes.setdefault(names.file(item.device_id), {})
                mine[written[item.recipient]] = item.outcome
            return Done(outcomes=outcomes)
        elif step.explain is not None:
            asked = step.explain.order
            command = to_command(asked, names, self._look, model.contacts.get)
            items, code = model.explain(command, self._now)
            written = names.recipients(getattr(asked, "to", []), model.contacts.get)
            would: dict[str, dict[str, Any]] = {}
            for item in items:
                mine = would.setdefault(names.file(item.device_id), {})
                mine[written.get(item.recipient or "", "-")] = self._would(item)
            return Done(refused=code, would=would)
        elif step.device is not None:
            self._set_device(step.device.device, step.device.now)
        elif step.account is not None:
            self._set_account(step.account.account, step.account.now)
        else:
            self._at_the_side(step)
        return Done()

    def _would(self, item: Item) -> dict[str, Any]:
        after = item.after(self._now)
        given = self._model.granted_terms(item, self._now)
        return {
            "outcome": item.outcome,
            "state": None if after is None else after.state,
            "permissions": plain_services(given, self._names),
        }

    def _at_the_side(self, step: Step) -> None:
        model, names = self._model, self._names
        match step.rule or step.note or step.show_code or step.scan:
            case Rule() as rule:
                model.always_accept(names.own(rule.by), names.own(rule.owner), always=rule.always)
            case Note() as note:
                model.note(names.own(note.by), names.address(note.address), note.remark)
            case ShowCode() as show:
                code = model.show_code(names.own(show.by), self._now)
                for addresses in model.accounts.values():
                    assert not [text for text in addresses if holds(code, text)], "an address in a code"
                self._codes[show.code] = code
            case Scan() as scan:
                address = model.scan(names.own(scan.by), self._codes[scan.code], self._now)
                assert scan.finds is None or names.file_address(address) == shown(scan.finds)
            case _:
                pass

    def _set_device(self, device: str, facts: DeviceFacts | None) -> None:
        self._devices = list(dict.fromkeys([*self._devices, device]))
        own = self._names.own(device)
        now_is = None
        if facts is not None:
            services = {self._names.own(name): what for name, what in facts.services.items()}
            now_is = device_of(own, self._names.own(facts.owner), services)
        self._model.set_device(own, now_is, self._now)

    def _set_account(self, account: str, addresses: Sequence[str] | None) -> None:
        self._accounts = list(dict.fromkeys([*self._accounts, account]))
        verified = addresses and [canonical_address(self._names.address(text)) for text in addresses]
        self._model.set_account(self._names.own(account), verified, self._now)

    def _look(self, device_id: str, address: str) -> Known | None:
        contact_id = self._model.contacts.get(address)
        share = None if contact_id is None else self._model.shares.get((device_id, contact_id))
        if share is None:
            return None
        return Known(share.share_id, share.contact_id, share.version, share.invitation_version)

    def _address(self, contact_id: UUID) -> str:
        return next(text for text, known in self._model.contacts.items() if known == contact_id)

    def _file_address(self, contact_id: UUID) -> str:
        return self._names.file_address(self._address(contact_id))

    async def events(self) -> list[Happened]:
        found = [
            happened(
                self._names.file(entry.event.device_id), entry.version,
                self._file_address(entry.event.contact_id), entry.event, entry.time,
            )
            for entry in self._last
        ]  # fmt: skip
        return sorted(found, key=lambda item: (item.device, item.version))

    async def snapshot(self) -> Snapshot:
        names, model = self._names, self._model
        shares = self._projected.shares()
        states: dict[str, dict[str, str]] = {name: {} for name in self._devices}
        listed: dict[str, dict[str, Any]] = {name: {} for name in self._devices}
        for share in shares:
            device, address = names.file(share.device_id), self._file_address(share.contact_id)
            states[device][address] = share.state.value
            there = model.devices.get(share.device_id)
            if (
                share.state in {ShareState.REQUESTED, ShareState.ACTIVE}
                and there is not None
                and there.owner_account_id == share.owner_account_id
            ):
                terms = Terms.model_validate_json(share.terms)
                listed[device][address] = {
                    "state": share.state.value,
                    **scope_of(terms.scope, names),
                    "scripting": terms.scripting,
                }
        notices: dict[str, list[str]] = {}
        for notice in self._projected.notices:
            address = self._address(notice.contact_id)
            if not is_phone(address) and notice.template in INVITING:
                notices.setdefault(names.file_address(address), []).append(notice.template.value)
        access = self._projected.access(model.devices, self._now)
        return Snapshot(
            states=states,
            access={
                name: {
                    names.file(service): plain(given)
                    for service, given in access.get(names.own(name), {}).items()
                }
                for name in self._accounts
            },
            notices=notices,
            listed=listed,
            books={
                name: {
                    self._file_address(contact_id): remark
                    for contact_id, remark in model.books.get(names.own(name), {}).items()
                }
                for name in self._accounts
            },
            messages=self._messages(),
        )

    def _messages(self) -> dict[str, dict[str, str]]:
        names, model = self._names, self._model
        found: dict[str, dict[str, str]] = {}
        for name in self._accounts:
            own = names.own(name)
            for share in model.shares.values():
                invited = share.account_id is None and self._address(share.contact_id) in model.accounts.get(
                    own, ()
                )
                if share.share_id in model.words and (
                    own in (share.owner_account_id, share.account_id) or invited
                ):
                    found.setdefault(name, {})[names.file(share.device_id)] = model.words[share.share_id]
        return found

    async def verdict(self, verdict: Verdict) -> bool:
        names, when = self._names, moment(verdict, self._now)
        account, service = names.own(verdict.account), names.own(verdict.service)
        for device in self._model.devices.values():
            if service in device.services and device.owner_account_id == account:
                supported = device.services[service] or frozenset[Permission]()
                return verdict.permission in supported | {Permission.SCRIPTING}
        given = self._projected.access(self._model.devices, when)
        return verdict.permission in given.get(account, {}).get(service, ())

    async def reveals(self, private: Private) -> list[str]:
        return [
            str(entry.event) for entry in self._model.log if private.text in entry.event.model_dump_json()
        ]


def holds(token: str, address: str) -> bool:
    """Whether a token holds an address: as it is, or in base64 as the parts of such tokens are."""
    text = token
    for part in token.split("."):
        text += base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("latin-1")
    return display_address(address) in text
