"""What was shared, what happened, who is connected: GraphQL fields that remote.it's schema does not have."""

from datetime import datetime
from typing import Annotated, Final, Self

import strawberry

from portal import answers
from portal.context import Context
from portal.errors import InvalidRequest
from portal.people import Person
from portal.sharing_types import ShareTerms

_Info = strawberry.Info[Context, None]

_MAX_PAGE: Final = 200


def _person(somebody: answers.Somebody | None, email: str | None = None) -> Person | None:
    if somebody is None:
        return None
    return Person(id=strawberry.ID(somebody.account_id), email=email, name=somebody.name)


@strawberry.type(description="A share that the caller gave or had, as it is now; also one that has ended.")
class PastShare:
    """`recipient` is who accepted it; `email` or `phone` is whom the caller invited."""

    id: strawberry.ID
    device_id: strawberry.ID
    device_name: str | None = strawberry.field(description="Null: the caller does not see the device.")
    given: bool = strawberry.field(description="True: by the caller; false: to him.")
    state: str = strawberry.field(description="requested, active, rejected, revoked, left or expired.")
    owner: Person
    recipient: Person | None
    email: str | None
    phone: str | None
    terms: ShareTerms
    requested: datetime
    since: datetime = strawberry.field(description="Since when the state is what it is.")
    expires_at: datetime | None = strawberry.field(description="Until when an invitation can be accepted.")
    version: int = strawberry.field(description="What `changeShare` takes as `expectedVersion`.")

    @classmethod
    def of(cls, share: answers.PastShare) -> Self:
        """As the read API answers it."""
        return cls(
            id=strawberry.ID(str(share.share_id)),
            device_id=strawberry.ID(share.device_id),
            device_name=share.device_name,
            given=share.given,
            state=share.state,
            owner=Person(id=strawberry.ID(share.owner.account_id), email=None, name=share.owner.name),
            recipient=_person(share.account, share.email),
            email=share.email,
            phone=share.phone,
            terms=ShareTerms.of(share.terms),
            requested=share.requested_at,
            since=share.since,
            expires_at=share.expires_at,
            version=share.version,
        )


@strawberry.type(description="Some shares of a longer list, the newest first.")
class PastShareList:
    """A page."""

    items: list[PastShare]
    next: str | None = strawberry.field(description="Hand it over as `after`; null: nothing comes.")


@strawberry.type(description="Something that happened to a share of a device.")
class ShareHappening:
    """`version` numbers the events of one device."""

    version: int
    kind: str = strawberry.field(description="The event's name, such as ShareAccepted.")
    at: datetime
    share_id: strawberry.ID
    recipient: Person | None
    email: str | None
    phone: str | None
    state: str = strawberry.field(description="Of the share, after it.")
    terms: ShareTerms | None
    reason: str | None

    @classmethod
    def of(cls, event: answers.ShareHappening) -> Self:
        """As the read API answers it."""
        return cls(
            version=event.version,
            kind=event.kind,
            at=event.at,
            share_id=strawberry.ID(str(event.share_id)),
            recipient=_person(event.account, event.email),
            email=event.email,
            phone=event.phone,
            state=event.state,
            terms=None if event.terms is None else ShareTerms.of(event.terms),
            reason=event.reason,
        )


@strawberry.type(description="Some events of a longer list, the newest first.")
class ShareHappeningList:
    """A page."""

    items: list[ShareHappening]
    next: str | None = strawberry.field(description="Hand it over as `after`; null: nothing comes.")


@strawberry.type(description="A connection to a service, or a try that was refused.")
class ConnectionRecord:
    """As the gateway told of it."""

    id: strawberry.ID
    device_id: strawberry.ID | None
    service_id: strawberry.ID
    user: Person
    permission: str
    opened: datetime | None
    ended: datetime | None
    outcome: str = strawberry.field(description="open, closed, cut or refused.")
    in_doubt: bool = strawberry.field(description="Its gateway was last heard of long ago.")
    reason: str | None

    @classmethod
    def of(cls, record: answers.ConnectionRecord) -> Self:
        """As the read API answers it."""
        return cls(
            id=strawberry.ID(str(record.connection_id)),
            device_id=None if record.device_id is None else strawberry.ID(record.device_id),
            service_id=strawberry.ID(record.service_id),
            user=Person(id=strawberry.ID(record.account.account_id), email=None, name=record.account.name),
            permission=record.permission,
            opened=record.opened_at,
            ended=record.ended_at,
            outcome=record.outcome,
            in_doubt=record.in_doubt,
            reason=record.reason,
        )


@strawberry.type(description="Some connections of a longer list, the newest first.")
class ConnectionRecordList:
    """A page."""

    items: list[ConnectionRecord]
    next: str | None = strawberry.field(description="Hand it over as `after`; null: nothing comes.")


def _page(size: int | None, after: str | None) -> dict[str, str | list[str]]:
    count = 100 if size is None else size
    if not 1 <= count <= _MAX_PAGE:
        raise InvalidRequest(f"size must be between 1 and {_MAX_PAGE}.")
    return {"size": str(count), **({"cursor": after} if after else {})}


_After = Annotated[str | None, strawberry.argument(description="`next` of the page before.")]


@strawberry.type
class HistoryFields:
    """What a user may look back at."""

    @strawberry.field(description="Shares that the caller gave and had, those that have ended included.")
    async def past_shares(
        self,
        info: _Info,
        given: bool | None = strawberry.UNSET,
        size: int | None = 100,
        after: _After = strawberry.UNSET,
    ) -> PastShareList:
        """``given`` true: those that he gave; false: those that he had."""
        context = info.context
        params = _page(size, after or None)
        if given is True or given is False:
            params["given"] = str(given).lower()
        page = await context.peers.read_api.share_history(context.account_id, params, context.position)
        return PastShareList(items=[PastShare.of(item) for item in page.items], next=page.next)

    @strawberry.field(description="What happened to the shares of a device that the caller gave or had.")
    async def device_history(
        self, info: _Info, device_id: str, size: int | None = 100, after: _After = strawberry.UNSET
    ) -> ShareHappeningList:
        """Refused with DEVICE_NOT_FOUND for what is none of his business."""
        context = info.context
        page = await context.peers.read_api.device_history(
            context.account_id, device_id, _page(size, after or None)
        )
        return ShareHappeningList(items=[ShareHappening.of(item) for item in page.items], next=page.next)

    @strawberry.field(description="Connections to the caller's devices, and his own to those of others.")
    async def connections(
        self,
        info: _Info,
        device_id: str | None = strawberry.UNSET,
        open: bool | None = False,
        size: int | None = 100,
        after: _After = strawberry.UNSET,
    ) -> ConnectionRecordList:
        """Of one device, or of all; ``open`` (of all): only those that are open now."""
        context = info.context
        params = _page(size, after or None)
        if open:
            if device_id:
                raise InvalidRequest("open is for all devices: leave out deviceId.")
            params["open"] = "true"
        page = await context.peers.read_api.connections(context.account_id, device_id or None, params)
        return ConnectionRecordList(items=[ConnectionRecord.of(item) for item in page.items], next=page.next)
