"""The notifier as the portal asks it: the inbox, what people choose about notices, and unsubscribe links."""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import AwareDatetime, Field

from contracts.base import Fact
from contracts.permissions import Terms
from portal.peers import Params, Peer


class Sharer(Fact):
    """Who shares."""

    account_id: str
    name: str | None = None


class Entry(Fact):
    """A notice in the inbox, with what has become of its share."""

    notice_id: UUID
    kind: str
    at: AwareDatetime
    read: bool
    later_until: AwareDatetime | None = None
    operation: str | None = None
    share_id: UUID
    device_id: str
    device_name: str | None = None
    sharer: Sharer
    recipient: str | None = None
    state: Literal["requested", "accepted", "ended"]
    invitation_version: int
    open: bool
    expires_at: AwareDatetime | None = None
    terms: Terms


class InboxPage(Fact):
    """Entries, the newest first."""

    items: tuple[Entry, ...]
    next: str | None = None
    unread: int


class Preferences(Fact):
    """What an account chose; ``wanted`` maps kind to way to whether it is wanted."""

    language: str | None = None
    time_zone: str | None = None
    quiet_hours: dict[str, str] | None = None
    wanted: dict[str, dict[str, bool]] = Field(default_factory=dict)


class Subscription(Fact):
    """Where pushes go."""

    subscription_id: UUID
    channel: str
    created_at: AwareDatetime


class Subscriptions(Fact):
    """All of an account, and the key that browsers subscribe with."""

    items: tuple[Subscription, ...]
    web_push_key: str | None = None


class SubscriptionId(Fact):
    """The one that was made."""

    subscription_id: UUID


class Kinds(Fact):
    """Which kinds of notice an unsubscribe link is about."""

    kinds: tuple[str, ...]


class Notifier(Peer):
    """Keeps inboxes, and tells people."""

    async def inbox(self, account_id: str, params: Params) -> InboxPage:
        """A page of the account's inbox; ``params`` as in docs/architecture.md."""
        return self.read(InboxPage, await self.ask(account_id, "GET", "/v1/inbox", params=params, attempts=2))

    async def mark(self, account_id: str, body: Mapping[str, object]) -> None:
        """Mark entries as read or not, or put them off."""
        await self.ask(account_id, "POST", "/v1/inbox/marks", json=body, attempts=2)

    async def changes(self, account_id: str) -> httpx.Response:
        """When the account's notices or choices may be others, to be read and closed by the caller; raises as
        `stream`."""
        return await self.stream(account_id, "/v1/changes", {})

    async def preferences(self, account_id: str) -> Preferences:
        """What the account chose."""
        answer = await self.ask(account_id, "GET", "/v1/preferences", attempts=2)
        return self.read(Preferences, answer)

    async def set_preferences(self, account_id: str, body: Mapping[str, Any]) -> None:
        """Choose; raises Refused ``INVALID_REQUEST``."""
        await self.ask(account_id, "PUT", "/v1/preferences", json=body, attempts=2)

    async def subscriptions(self, account_id: str) -> Subscriptions:
        """Where the account gets pushes."""
        answer = await self.ask(account_id, "GET", "/v1/push-subscriptions", attempts=2)
        return self.read(Subscriptions, answer)

    async def subscribe(self, account_id: str, body: Mapping[str, object]) -> UUID:
        """Add a browser or an app; raises Refused."""
        answer = await self.ask(account_id, "POST", "/v1/push-subscriptions", json=body, attempts=2)
        return self.read(SubscriptionId, answer).subscription_id

    async def unsubscribe(self, account_id: str, subscription_id: str) -> None:
        """Take a browser or an app away."""
        path = f"/v1/push-subscriptions/{quote(subscription_id, safe='')}"
        await self.ask(account_id, "DELETE", path, attempts=2)

    async def linked_kinds(self, token: str) -> Kinds:
        """What an unsubscribe link is about; raises Refused ``INVALID_LINK``. The token is the authority."""
        path = "/v1/unsubscriptions/look"
        return self.read(Kinds, await self.ask(_NOBODY, "POST", path, json={"token": token}, attempts=2))

    async def stop_mails(self, token: str) -> Kinds:
        """Send no more such mails to whom the link was sent; raises Refused ``INVALID_LINK``."""
        path = "/v1/unsubscriptions"
        return self.read(Kinds, await self.ask(_NOBODY, "POST", path, json={"token": token}, attempts=2))


_NOBODY = "nobody"
"""For whom the portal asks when nobody has signed in."""
