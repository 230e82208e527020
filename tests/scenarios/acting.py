"""From the file's names to those of one run, and from its acts to commands."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never
from uuid import UUID, uuid4

from scenario import (
    Accept,
    AnyOrder,
    Bulk,
    Change,
    Leave,
    OnShare,
    Reject,
    Remove,
    Request,
    Resend,
    Revoke,
    Verdict,
)

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
    RevokeShare,
)
from contracts.contacts import InvalidAddressError, canonical_address, display_address
from contracts.outcomes import BulkShare
from contracts.permissions import AllServices, Scope, SomeServices, TermsOrder

START = datetime(2100, 1, 1, tzinfo=UTC)
"""When a scenario starts. Later than now: the real clock of a real process ends nothing before its time."""


@dataclass(frozen=True, slots=True)
class Known:
    """A share as the command's author saw it last."""

    share_id: UUID
    contact_id: UUID
    version: int
    invitation_version: int


NOBODY_KNOWS = Known(UUID(int=0), UUID(int=0), 1, 1)
"""Of a share that is not there."""

Look = Callable[[str, str], Known | None]
"""The share of a device with a canonical address."""

ContactId = Callable[[str], UUID | None]
"""The contact id of a canonical address."""


class Names:
    """The names of one run. ``number`` (below 1000) tells the runs on one server apart."""

    def __init__(self, number: int) -> None:
        self._digits = f"{number:03}"
        self._tag = f"s{self._digits}"
        self._shown: dict[str, str] = {}

    @property
    def tag(self) -> str:
        """What the ids of this run end with."""
        return f".{self._tag}"

    def own(self, name: str) -> str:
        """The id of an account, a device or a service."""
        return f"{name}.{self._tag}"

    def file(self, name: str) -> str:
        """Back again."""
        return name.removesuffix(f".{self._tag}")

    def address(self, written: str) -> str:
        """An address, as somebody would write it."""
        local, at, domain = written.partition("@")
        own = f"{local}.{self._tag}@{domain}" if at else written.replace("555", self._digits, 1)
        try:
            self._shown[canonical_address(own)] = shown(written)
        except InvalidAddressError:
            return written
        return own

    def file_address(self, address: str) -> str:
        """Back again, from its canonical form or that which people read."""
        return self._shown[canonical_address(address)]

    def recipients(self, written: Iterable[str], contact_id: ContactId) -> dict[str, str]:
        """Recipients as they are sent → as they are written; ``contact:<address>`` names a contact."""
        sent: dict[str, str] = {}
        for text in written:
            if text.startswith("contact:"):
                address = canonical_address(self.address(text.removeprefix("contact:")))
                sent[f"contact:{contact_id(address) or UUID(int=0)}"] = text
            else:
                sent[self.address(text)] = text
        return sent


def shown(written: str) -> str:
    """The one spelling of an address under which lists are compared."""
    return display_address(canonical_address(written))


def to_command(order: AnyOrder, names: Names, look: Look, contact_id: ContactId) -> AnyCommand:
    """The command that an act of a file is."""
    common: dict[str, Any] = {"command_id": command_id(order.id, names), "actor": names.own(order.by)}
    if isinstance(order, OnShare):
        address = canonical_address(names.address(order.address))
        known = look(names.own(order.device), address) or NOBODY_KNOWS
        common |= {"device_id": names.own(order.device), "share_id": known.share_id}
        return _on_share(order, common, known, names)
    match order:
        case Request():
            return RequestShare.model_validate(common | request_fields(order, names, contact_id))
        case Revoke() | Leave():
            common |= {
                "device_ids": [names.own(name) for name in order.devices],
                "recipients": list(names.recipients(order.to, contact_id)),
            }
            kind = RevokeShare if isinstance(order, Revoke) else LeaveShare
            return kind.model_validate(common)
        case Remove():
            (recipient,) = names.recipients([order.recipient], contact_id)
            return RemoveRecipient(**common, recipient=recipient)
        case _:
            assert_never(order)


def to_bulk(order: Bulk, names: Names, contact_id: ContactId) -> BulkShare:
    """The bulk that an act of a file is."""
    fields = request_fields(order, names, contact_id)
    operation = command_id(order.id, names)
    return BulkShare.model_validate({"operation_id": operation, "actor": names.own(order.by), **fields})


def command_id(written: str | None, names: Names) -> str:
    """The idempotency key: the file's, or a new one."""
    return names.own(written) if written else uuid4().hex


def request_fields(order: Request, names: Names, contact_id: ContactId) -> dict[str, Any]:
    """The fields that requests and bulks have in common."""
    return {
        "device_ids": [names.own(name) for name in order.devices],
        "recipients": list(names.recipients(order.to, contact_id)),
        "services": [
            change.model_copy(update={"service_id": names.own(change.service_id)})
            for change in order.services
        ],
        "permissions": order.permissions,
        "scripting": order.scripting,
        "notify": order.notify,
        "starts_at": at(order.starts),
        "ends_at": at(order.ends),
        "expires_at": at(order.expires),
        "message": order.message,
    }


def _on_share(
    order: Accept | Reject | Resend | Change | OnShare, common: dict[str, Any], known: Known, names: Names
) -> AnyCommand:
    match order:
        case Accept(seen=seen):
            return AcceptShare(**common, invitation_version=seen or known.invitation_version)
        case Reject():
            return RejectShare(**common)
        case Resend():
            return ResendInvitation(**common)
        case Change():
            scope = {"kind": "all", "permissions": order.all}
            if order.services is not None:
                services = {names.own(name): chosen for name, chosen in order.services.items()}
                scope = {"kind": "some", "services": services}
            terms = TermsOrder.model_validate(
                {
                    "scope": scope,
                    "scripting": order.scripting,
                    "starts_at": at(order.starts),
                    "ends_at": at(order.ends),
                }
            )
            return ChangeShare(
                **common,
                expected_version=order.seen or known.version,
                terms=terms,
                message=order.message,
                notify=order.notify,
            )
        case _:
            raise AssertionError(order)


def at(offset: timedelta | None) -> datetime | None:
    """A time of the file."""
    return None if offset is None else START + offset


def moment(verdict: Verdict, now: datetime) -> datetime:
    """When a verdict is asked for."""
    return at(verdict.at) or now


def scope_of(scope: Scope, names: Names) -> dict[str, Any]:
    """A scope in the file's names, as `scenario.Listed` writes it."""
    match scope:
        case AllServices(permissions=chosen):
            return {"all": plain(chosen), "services": None}
        case SomeServices(services=services):
            return {
                "all": None,
                "services": {names.file(name): plain(chosen) for name, chosen in services.items()},
            }


def plain(chosen: object) -> Any:
    """``"all"``, or the permissions sorted."""
    return chosen if isinstance(chosen, str) else sorted(str(item) for item in _iterable(chosen))


def _iterable(value: object) -> Iterable[object]:
    assert isinstance(value, (frozenset, set, list, tuple))
    return value  # pyright: ignore[reportUnknownVariableType] - its items are only printed


def plain_services(services: Mapping[str, object], names: Names) -> dict[str, Any]:
    """Service → permissions, in the file's names."""
    return {names.file(name): plain(chosen) for name, chosen in services.items()}
