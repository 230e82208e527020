"""The events and sessions of the GraphQL schema, in the names that remote.it's clients use."""

from datetime import datetime
from enum import Enum
from typing import Any, Final, Self

import strawberry

from portal import answers, happenings
from portal.people import Person


@strawberry.enum(description="What kinds of events there are. Of all but two nothing is kept here.")
class EventType(Enum):
    """Those that remote.it's clients ask for."""

    DEVICE_SHARE = "DEVICE_SHARE"
    DEVICE_CONNECT = "DEVICE_CONNECT"
    DEVICE_STATE = "DEVICE_STATE"
    AUTH_LOGIN = "AUTH_LOGIN"
    AUTH_LOGIN_ATTEMPT = "AUTH_LOGIN_ATTEMPT"
    AUTH_PASSWORD_CHANGE = "AUTH_PASSWORD_CHANGE"  # noqa: S105 - a name
    AUTH_PASSWORD_RESET = "AUTH_PASSWORD_RESET"  # noqa: S105 - a name
    AUTH_PASSWORD_RESET_CONFIRMED = "AUTH_PASSWORD_RESET_CONFIRMED"  # noqa: S105 - a name
    AUTH_PHONE_CHANGE = "AUTH_PHONE_CHANGE"
    AUTH_MFA_ENABLED = "AUTH_MFA_ENABLED"
    AUTH_MFA_DISABLED = "AUTH_MFA_DISABLED"


@strawberry.enum(description="What became of a share.")
class EventAction(Enum):
    """In remote.it's three words, and one for connections."""

    add = "add"
    update = "update"
    remove = "remove"
    connect = "connect"


_ACTIONS: Final = {
    "ShareRequested": EventAction.add,
    "ShareAccepted": EventAction.update,
    "ShareChanged": EventAction.update,
    "InvitationResent": EventAction.update,
}
"""All others end a share."""

_BY_RECIPIENT: Final = frozenset({"ShareAccepted", "ShareRejected", "ShareLeft"})
_BY_OWNER: Final = frozenset({None, "by_owner", "recipient_deleted"})
"""Reasons of an end or a change that are the owner's doing; others are the registry's."""


@strawberry.type(description="A device in an event.")
class EventDevice:
    """`name` is null for whom it is not there now."""

    id: strawberry.ID
    name: str | None


@strawberry.type(description="A service in an event, or the device as a whole.")
class EventTarget:
    """`name` is null for whom it is not there now."""

    id: strawberry.ID
    name: str | None
    device: EventDevice | None


@strawberry.interface(description="Something that happened.")
class Event:
    """Every field is here, so that clients may ask with or without `... on`."""

    id: strawberry.ID
    type: EventType
    state: str | None = strawberry.field(
        description="Of a share after it; of a connection: connected or refused."
    )
    timestamp: datetime
    action: EventAction
    actor: Person | None = strawberry.field(description="Who did it; null: nobody, time or the registry.")
    owner: Person | None
    users: list[Person] = strawberry.field(description="With whom it is shared, or who connected.")
    devices: list[EventDevice]
    services: list[EventTarget] = strawberry.field(
        description="Which services it is about; none: the device as a whole."
    )
    target: list[EventTarget] = strawberry.field(
        description="The services it is about, else the device as a whole."
    )
    scripting: bool = strawberry.field(description="Whether the share includes scripting.")
    shared: bool = strawberry.field(
        description="Whether the share stands after it, as an invitation or accepted."
    )
    kind: str = strawberry.field(
        description="The event's own name, such as ShareAccepted; of connections open, closed, cut or "
        "refused, as it is now. Not in remote.it's schema."
    )
    reason: str | None = strawberry.field(description="Why. Not in remote.it's schema.")


@strawberry.type(description="Something that happened to a share.")
class DeviceShareEvent(Event):
    """See `Event`."""

    share_id: strawberry.ID = strawberry.field(description="Not in remote.it's schema.")


@strawberry.type(description="A connection, at the time when it was opened, or a try that was refused.")
class DeviceConnectEvent(Event):
    """As it is now."""

    session: strawberry.ID
    tx_bytes: float | None = strawberry.field(description="Bytes to the device, once it has ended.")
    rx_bytes: float | None = strawberry.field(description="Bytes from the device, once it has ended.")
    lifetime: float | None = strawberry.field(description="Seconds that it was open, once it has ended.")
    ended: datetime | None = strawberry.field(description="Not in remote.it's schema.")


@strawberry.type(description="Some events of a longer list, the newest first.")
class EventList:
    """A page."""

    items: list[Event]
    total: int = strawberry.field(description="Of all pages.")
    has_more: bool
    last: strawberry.ID | None = strawberry.field(description="Hand it over as `after` to get the next page.")

    @classmethod
    def of(cls, page: happenings.EventPage, count: int, me: answers.Me) -> Self:
        """The first ``count`` of a page."""
        items = [_event(item, me) for item in page.items[:count]]
        return cls(
            items=items,
            total=page.total or 0,
            has_more=page.has_more or len(page.items) > count,
            last=strawberry.ID(page.last) if page.last and items else None,
        )


def _event(item: happenings.Event, me: answers.Me) -> Event:
    devices = (
        []
        if item.device_id is None
        else [EventDevice(id=strawberry.ID(item.device_id), name=item.device_name)]
    )
    device = devices[0] if devices else None
    services = [
        EventTarget(id=strawberry.ID(service.service_id), name=service.name, device=device)
        for service in item.services
    ]
    whole = [EventTarget(id=device.id, name=device.name, device=device)] if device and not services else []
    common: dict[str, Any] = {
        "id": strawberry.ID(str(item.event_id)),
        "timestamp": item.at,
        "owner": None if item.owner is None else Person.from_owner(item.owner),
        "devices": [device] if device else [],
        "services": services,
        "target": services or whole,
    }
    if item.share is not None:
        return _share_event(item, item.share, _other(item, me), common)
    assert item.connection is not None
    return _connect_event(item.connection, _other(item, me), common)


def _other(item: happenings.Event, me: answers.Me) -> Person:
    """The recipient, or who connected: the caller himself unless he owns or gave it."""
    own = item.owner is not None and item.owner.account_id == me.account_id
    account_id = item.account.account_id if item.account else "" if own else me.account_id
    if account_id == me.account_id:
        return Person(id=strawberry.ID(me.account_id), email=me.email, name=me.name)
    name = item.account.name if item.account else None
    return Person(id=strawberry.ID(account_id), email=item.email, name=name)


def _share_event(
    item: happenings.Event, share: happenings.ShareChange, recipient: Person, common: dict[str, Any]
) -> DeviceShareEvent:
    owner: Person | None = common["owner"]
    actor = None
    if share.kind in _BY_RECIPIENT:
        actor = recipient
    elif share.kind != "ShareExpired" and share.reason in _BY_OWNER:
        actor = owner
    return DeviceShareEvent(
        **common,
        type=EventType.DEVICE_SHARE,
        state=share.state,
        action=_ACTIONS.get(share.kind, EventAction.remove),
        actor=actor,
        users=[recipient],
        scripting=share.terms.scripting,
        shared=share.state in {"requested", "active"},
        kind=share.kind,
        reason=share.reason,
        share_id=strawberry.ID(str(share.share_id)),
    )


def _connect_event(use: happenings.ConnectionUse, who: Person, common: dict[str, Any]) -> DeviceConnectEvent:
    ended = use.ended_at if use.opened_at else None
    return DeviceConnectEvent(
        **common,
        type=EventType.DEVICE_CONNECT,
        state="refused" if use.outcome == "refused" else "connected",
        action=EventAction.connect,
        actor=who,
        users=[who],
        scripting=False,
        shared=False,
        kind=use.outcome,
        reason=use.reason,
        session=strawberry.ID(str(use.connection_id)),
        tx_bytes=use.bytes_to_device,
        rx_bytes=use.bytes_from_device,
        lifetime=(ended - use.opened_at).total_seconds() if ended and use.opened_at else None,
        ended=use.ended_at,
    )


@strawberry.type(description="A connection that is open, or the one that was just asked for.")
class Session:
    """Of one that was just asked for only the id is known."""

    id: strawberry.ID
    timestamp: datetime | None = strawberry.field(default=None, description="Since when it is open.")
    state: str | None = strawberry.field(default=None, description='"connected".')
    user: Person | None = None
    target: EventTarget | None = None

    @classmethod
    def of(cls, connection: happenings.OpenConnection, me: answers.Me) -> Self:
        """An open connection, to a device whose name is not repeated."""
        own = connection.account.account_id == me.account_id
        return cls(
            id=strawberry.ID(str(connection.connection_id)),
            timestamp=connection.opened_at,
            state="connected",
            user=Person(
                id=strawberry.ID(connection.account.account_id),
                email=me.email if own else connection.email,
                name=connection.account.name,
            ),
            target=EventTarget(
                id=strawberry.ID(connection.service_id),
                name=connection.service_name,
                device=EventDevice(id=strawberry.ID(connection.device_id), name=None),
            ),
        )
