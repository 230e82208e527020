"""The inbox in GraphQL, and what people choose about notices: ways, quiet hours, language, subscriptions."""

from datetime import datetime
from enum import Enum
from typing import Final

import strawberry

from portal import notices
from portal.commanding import Info, path
from portal.errors import InvalidRequest
from servicekit.http import ApiError

_MAX_PAGE: Final = 200
_MAX_MARKED: Final = 1000


@strawberry.enum(description="What to do with an entry of the inbox.")
class InboxMark(Enum):
    """As the notifier names it."""

    READ = "read"
    UNREAD = "unread"
    LATER = "later"


@strawberry.type(description="Something that the caller was told.")
class InboxEntry:
    """`kind`: invitation, invitation_changed, share_changed, revoked, expiring, expired (to the recipient);
    accepted, rejected, left, undeliverable, first_use (to the sharer). An invitation is answered with
    `acceptShare` and `rejectShare`, naming its `shareId`, `deviceId` and `invitationVersion`."""

    id: strawberry.ID
    kind: str
    at: datetime
    read: bool
    later_until: datetime | None
    operation: strawberry.ID | None = strawberry.field(
        description="Entries that have it in common came of one bulk share."
    )
    share_id: strawberry.ID
    device_id: strawberry.ID
    device_name: str | None
    sharer_id: strawberry.ID
    sharer_name: str | None
    recipient: str | None = strawberry.field(description="The invited address; for the sharer only.")
    state: str = strawberry.field(description="What the share is now: requested, accepted or ended.")
    open: bool = strawberry.field(description="Whether the invitation can be accepted now.")
    invitation_version: int
    expires_at: datetime | None


@strawberry.type(description="A page of the inbox, the newest first.")
class Inbox:
    """`next` continues it; null: nothing comes."""

    items: list[InboxEntry]
    next: str | None
    unread: int = strawberry.field(description="How many are not read, counted to 100.")


@strawberry.type(description="Whether a kind of notice comes on a way: email, sms, web_push or fcm.")
class NoticePreference:
    """The inbox has all kinds."""

    kind: str
    channel: str
    wanted: bool


@strawberry.input(description="A kind of notice on a way, and whether it is wanted.")
class NoticePreferenceInput:
    """Others stay as they are."""

    kind: str
    channel: str
    wanted: bool


@strawberry.type(description="What the caller chose about notices.")
class NoticeSettings:
    """Quiet hours are local times of `timeZone` (`22:00:00`); security notices come at any hour."""

    language: str | None
    time_zone: str | None
    quiet_from: str | None
    quiet_until: str | None
    preferences: list[NoticePreference]


@strawberry.type(description="A browser or an app that gets the caller's pushes.")
class PushSubscription:
    """`channel`: web_push or fcm."""

    id: strawberry.ID
    channel: str
    created_at: datetime


@strawberry.type(description="Where the caller gets pushes.")
class PushSubscriptions:
    """`webPushKey` is the `applicationServerKey` to subscribe with; null: there is no Web Push here."""

    items: list[PushSubscription]
    web_push_key: str | None


def _entry(item: notices.Entry) -> InboxEntry:
    return InboxEntry(
        id=strawberry.ID(str(item.notice_id)),
        kind=item.kind,
        at=item.at,
        read=item.read,
        later_until=item.later_until,
        operation=None if item.operation is None else strawberry.ID(item.operation),
        share_id=strawberry.ID(str(item.share_id)),
        device_id=strawberry.ID(item.device_id),
        device_name=item.device_name,
        sharer_id=strawberry.ID(item.sharer.account_id),
        sharer_name=item.sharer.name,
        recipient=item.recipient,
        state=item.state,
        open=item.open,
        invitation_version=item.invitation_version,
        expires_at=item.expires_at,
    )


@strawberry.type
class InboxFields:
    """What a user has of notices."""

    @strawberry.field(description="What the caller was told, the newest first.")
    async def inbox(
        self,
        info: Info,
        *,
        size: int = 50,
        after: str | None = strawberry.UNSET,
        unread: bool = False,
        put_off: bool = False,
    ) -> Inbox:
        """`after` is the `next` of the page before; `putOff` shows also those that were put off."""
        if not 1 <= size <= _MAX_PAGE:
            raise InvalidRequest(f"size must be from 1 to {_MAX_PAGE}.")
        params = {"size": str(size), "unread": str(unread).lower(), "put_off": str(put_off).lower()}
        if after:
            params["cursor"] = after
        context = info.context
        page = await context.peers.notifier.inbox(context.account_id, params)
        return Inbox(items=[_entry(item) for item in page.items], next=page.next, unread=page.unread)

    @strawberry.field(description="What the caller chose about notices.")
    async def notice_settings(self, info: Info) -> NoticeSettings:
        """All kinds and ways, with what holds for each."""
        context = info.context
        found = await context.peers.notifier.preferences(context.account_id)
        quiet = found.quiet_hours or {}
        return NoticeSettings(
            language=found.language,
            time_zone=found.time_zone,
            quiet_from=quiet.get("from"),
            quiet_until=quiet.get("until"),
            preferences=[
                NoticePreference(kind=kind, channel=channel, wanted=wanted)
                for kind, ways in found.wanted.items()
                for channel, wanted in ways.items()
            ],
        )

    @strawberry.field(description="Where the caller gets pushes.")
    async def push_subscriptions(self, info: Info) -> PushSubscriptions:
        """The oldest first."""
        context = info.context
        found = await context.peers.notifier.subscriptions(context.account_id)
        return PushSubscriptions(
            items=[
                PushSubscription(
                    id=strawberry.ID(str(item.subscription_id)),
                    channel=item.channel,
                    created_at=item.created_at,
                )
                for item in found.items
            ],
            web_push_key=found.web_push_key,
        )


@strawberry.type
class InboxMutations:
    """What can be done with notices."""

    @strawberry.mutation(
        description="Mark entries of the inbox as read or unread, or put them off until then."
    )
    async def mark_inbox(
        self,
        info: Info,
        ids: list[strawberry.ID],
        mark: InboxMark,
        until: datetime | None = strawberry.UNSET,
    ) -> bool:
        """`until` belongs to LATER: at most 90 days from now. Entries of others stay as they are."""
        if not 1 <= len(ids) <= _MAX_MARKED:
            raise InvalidRequest(f"ids must name 1 to {_MAX_MARKED} entries.")
        body = {
            "notice_ids": [str(item) for item in ids],
            "mark": mark.value,
            "until": until.isoformat() if until else None,
        }
        context = info.context
        try:
            await context.peers.notifier.mark(context.account_id, body)
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True

    @strawberry.mutation(
        description="Choose language, zone and quiet hours, and the ways of kinds of notice."
    )
    async def set_notice_settings(
        self,
        info: Info,
        *,
        language: str | None = None,
        time_zone: str | None = None,
        quiet_from: str | None = None,
        quiet_until: str | None = None,
        preferences: list[NoticePreferenceInput] | None = None,
    ) -> bool:
        """Language, zone and quiet hours are replaced by what is given; null takes them away."""
        wanted: dict[str, dict[str, bool]] = {}
        for item in preferences or ():
            wanted.setdefault(item.kind, {})[item.channel] = item.wanted
        quiet = quiet_from is not None or quiet_until is not None
        body = {
            "language": language,
            "time_zone": time_zone,
            "quiet_hours": {"from": quiet_from, "until": quiet_until} if quiet else None,
            "wanted": wanted,
        }
        context = info.context
        try:
            await context.peers.notifier.set_preferences(context.account_id, body)
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True

    @strawberry.mutation(
        description="Get pushes in this browser (`endpoint`, `p256dh`, `auth`) or app (`fcmToken`)."
    )
    async def add_push_subscription(
        self,
        info: Info,
        *,
        endpoint: str | None = None,
        p256dh: str | None = None,
        auth: str | None = None,
        fcm_token: str | None = None,
    ) -> strawberry.ID:
        """The same again is the same; the subscription's id."""
        body: dict[str, object] = {"endpoint": endpoint, "fcm_token": fcm_token}
        if p256dh is not None or auth is not None:
            body["keys"] = {"p256dh": p256dh or "", "auth": auth or ""}
        context = info.context
        return strawberry.ID(str(await context.peers.notifier.subscribe(context.account_id, body)))

    @strawberry.mutation(description="Get no more pushes there.")
    async def remove_push_subscription(self, info: Info, id: strawberry.ID) -> bool:
        """One that is not there is a success."""
        context = info.context
        try:
            await context.peers.notifier.unsubscribe(context.account_id, str(id))
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True
