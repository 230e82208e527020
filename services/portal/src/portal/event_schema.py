"""Events and sessions of the caller and of a device, and who had access to it at a time: GraphQL fields."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final, Self

import strawberry
from strawberry.types.nodes import SelectedField, Selection

from portal import answers, happenings
from portal.context import Context
from portal.errors import InvalidRequest
from portal.event_types import EventList, EventType, Session
from portal.people import Person
from portal.sharing_types import ShareTerms

_Info = strawberry.Info[Context, None]

_MAX_PAGE: Final = 1000
_FURTHEST: Final = 1_000_000
_KINDS: Final = {EventType.DEVICE_SHARE: "share", EventType.DEVICE_CONNECT: "connection"}

_From = Annotated[int | None, strawberry.argument(name="from")]
_EVENTS: Final = (
    "What happened to shares and on connections, the newest first: `DEVICE_SHARE` and `DEVICE_CONNECT`, "
    "from `minDate` to `maxDate`. A recipient sees what concerns himself. Page by `after`, or by `from`."
)


def _params(
    from_: int | None,
    count: int,
    after: str | None,
    between: tuple[datetime | None, datetime | None],
    types: Iterable[EventType],
    *,
    counted: bool,
) -> dict[str, str | tuple[str, ...]]:
    """The same in the read API's words."""
    start = from_ or 0
    if not 0 <= start <= _FURTHEST:
        raise InvalidRequest(f"from must be between 0 and {_FURTHEST}; use after to go further.")
    params: dict[str, str | tuple[str, ...]] = {"size": str(max(count, 1))}
    if start:
        params["from"] = str(start)
    if after:
        params["cursor"] = after
    for name, time in zip(("since", "until"), between, strict=True):
        if time is not None:
            params[name] = (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    kinds = tuple(dict.fromkeys(_KINDS[kind] for kind in types if kind in _KINDS))
    if kinds:
        params["type"] = kinds
    if counted:
        params["total"] = "true"
    return params


def _count(size: int | None) -> int:
    count = 100 if size is None else size
    if not 0 <= count <= _MAX_PAGE:
        raise InvalidRequest(f"size must be between 0 and {_MAX_PAGE}.")
    return count


def _asks_nothing_kept(types: list[EventType] | None) -> bool:
    return bool(types) and not any(kind in _KINDS for kind in types or ())


def _selects(selections: Iterable[Selection], name: str) -> bool:
    """Whether a field is asked for, be it in a fragment."""
    return any(
        part.name == name if isinstance(part, SelectedField) else _selects(part.selections, name)
        for part in selections
    )


def _counted(info: _Info) -> bool:
    """Whether the total is asked for: counting takes longer than a page."""
    return any(_selects(field.selections, "total") for field in info.selected_fields)


def _nothing() -> EventList:
    return EventList(items=[], total=0, has_more=False, last=None)


@strawberry.type
class UserEventFields:
    """What a user has of events and sessions."""

    @strawberry.field(description=_EVENTS)
    async def events(
        self,
        info: _Info,
        *,
        from_: _From = 0,
        size: int | None = 100,
        after: strawberry.ID | None = strawberry.UNSET,
        min_date: datetime | None = strawberry.UNSET,
        max_date: datetime | None = strawberry.UNSET,
        types: list[EventType] | None = strawberry.UNSET,
    ) -> EventList:
        """Of shares that he gave or had, on his connections, and on all to his devices."""
        count = _count(size)
        if _asks_nothing_kept(types or None):
            return _nothing()
        params = _params(
            from_, count, after, (min_date or None, max_date or None), types or (), counted=_counted(info)
        )
        context = info.context
        page = await context.peers.read_api.events(context.account_id, params, context.position)
        return EventList.of(page, count, await context.me())

    @strawberry.field(description="Connections that are open now: the caller's, and all to his devices.")
    async def sessions(self, info: _Info) -> list[Session]:
        """The newest first."""
        context = info.context
        me = await context.me()
        found = await context.peers.read_api.open_connections(context.account_id, None)
        return [Session.of(connection, me) for connection in found]


@strawberry.type(description="The event by which somebody had access.")
class DecidingEvent:
    """In a device's history `version` is its number."""

    id: strawberry.ID
    kind: str
    version: int
    at: datetime


@strawberry.type(description="Somebody who had access at a time. Not in remote.it's schema.")
class PastAccess:
    """`terms` and `by` are null for the owner himself."""

    role: str = strawberry.field(description="owner or recipient.")
    user: Person
    phone: str | None = strawberry.field(description="Of who was invited by telephone.")
    share_id: strawberry.ID | None
    by: DecidingEvent | None
    terms: ShareTerms | None

    @classmethod
    def of(cls, past: happenings.PastAccess) -> Self:
        """As the read API answers it."""
        by = past.by
        return cls(
            role=past.role,
            user=Person(id=strawberry.ID(past.account.account_id), email=past.email, name=past.account.name),
            phone=past.phone,
            share_id=None if past.share_id is None else strawberry.ID(str(past.share_id)),
            by=None
            if by is None
            else DecidingEvent(
                id=strawberry.ID(str(by.event_id)), kind=by.kind, version=by.version, at=by.at
            ),
            terms=None if past.terms is None else ShareTerms.of(past.terms),
        )


@strawberry.type
class DeviceEventFields:
    """What a device has of events and sessions."""

    answer: strawberry.Private[answers.Device]

    @strawberry.field(description=_EVENTS)
    async def events(
        self,
        info: _Info,
        *,
        from_: _From = 0,
        size: int | None = 100,
        after: strawberry.ID | None = strawberry.UNSET,
        min_date: datetime | None = strawberry.UNSET,
        max_date: datetime | None = strawberry.UNSET,
        types: list[EventType] | None = strawberry.UNSET,
    ) -> EventList:
        """Of this device."""
        count = _count(size)
        if _asks_nothing_kept(types or None):
            return _nothing()
        params = _params(
            from_, count, after, (min_date or None, max_date or None), types or (), counted=_counted(info)
        )
        asked = (self.answer.device_id, tuple(params.items()))
        page = await info.context.lookups.events.load(asked)
        return EventList.of(page, count, await info.context.me())

    @strawberry.field(description="Connections to it that are open now; a recipient sees his own.")
    async def sessions(self, info: _Info) -> list[Session]:
        """The newest first."""
        me = await info.context.me()
        return [
            Session.of(connection, me)
            for connection in await info.context.lookups.open.load(self.answer.device_id)
        ]

    @strawberry.field(
        description="Who had access at a time by the caller's shares, and by which event; null for a device "
        "that is shared with him: its owner alone is told. Not in remote.it's schema."
    )
    async def access_at(self, info: _Info, at: datetime) -> list[PastAccess] | None:
        """The owner first."""
        if not self.answer.owned:
            return None
        context = info.context
        time = at if at.tzinfo else at.replace(tzinfo=UTC)
        found = await context.peers.read_api.access_at(context.account_id, self.answer.device_id, time)
        return [PastAccess.of(past) for past in found]
