"""What each way makes of notices: a mail, a push, a short message."""

import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from contracts.contacts import display_address, is_phone
from notifier.catalogue import Voice, spoken
from notifier.channels.email import EmailChannel
from notifier.channels.fcm import AppPush, FcmChannel
from notifier.channels.sms import MAX_SEPTETS, SmsChannel, septets, spelled
from notifier.channels.web_push import MAX_PAYLOAD, MAX_TTL, Push, WebPushChannel, encoded
from notifier.errors import DeferredError, RefusedError
from notifier.letters import Renderer
from notifier.planner import INVITING, SECURITY, Channel, link_ends_at
from notifier.routing import pair
from notifier.store.outward import Item, Store
from notifier.texts import Message, Told, message

_REFUSALS: Final = 3
"""So often in a row a push service may refuse our signature before a subscription counts as gone."""

_OTHER_TTL: Final = timedelta(days=1)


def told(item: Item) -> Told:
    """A delivery's notice with what is known of it."""
    return Told(
        notice=item.notice,
        invitation=item.invitation,
        sharer_name=item.owner_name,
        sharer_address=item.owner_address,
        recipient_address=item.contact_address,
        device_name=item.device_name,
        service_names=item.service_names,
    )


def _require_address(item: Item) -> str:
    if item.address is None:  # it was deleted since the delivery was planned
        raise RefusedError("UNSUPPORTED_ADDRESS", "There is no address any more.")
    return item.address


class EmailWay:
    """One mail for all notices of a delivery."""

    channel = Channel.EMAIL

    def __init__(self, channel: EmailChannel, renderer: Renderer) -> None:
        self._channel, self._renderer = channel, renderer

    @asynccontextmanager
    async def sent(self, items: Sequence[Item]) -> AsyncGenerator[None]:
        """See `delivery.Way`."""
        first = items[0]
        letter = self._renderer.letter(
            [told(item) for item in items],
            address=_require_address(first),
            language=first.language,
            key=f"{first.key}/{self.channel}",
            correlation_id=first.correlation_id,
        )
        async with self._channel.sent(letter, first.looked_at):
            yield


class SmsWay:
    """One short message; links do not fit into one, so that it leads to the portal."""

    channel = Channel.SMS

    def __init__(self, channel: SmsChannel, public_url: str) -> None:
        self._channel, self._public_url = channel, public_url

    @asynccontextmanager
    async def sent(self, items: Sequence[Item]) -> AsyncGenerator[None]:
        """See `delivery.Way`."""
        first = items[0]
        address = _require_address(first)
        if not is_phone(address):
            raise RefusedError("UNSUPPORTED_ADDRESS", "The address is no telephone number any more.")
        text = short_message([told(item) for item in items], first.language, f"{self._public_url}/")
        await self._channel.send(display_address(address), text, first.key)
        yield


def short_message(items: Sequence[Told], language: str | None, url: str) -> str:
    """The text of an SMS: what it is about, cut to fit, and where to go."""
    voice = Voice.of(spoken(language), html=False)
    line = spelled(message(voice, items, lambda _told, _purpose: url).subject)
    ending = f": {url}"
    while (septets(line + ending) or 0) > MAX_SEPTETS and line:
        line = line[:-4].rstrip() + "..." if len(line) > 4 else ""
    return line + ending


class _Pushed:
    """What pushes have in common."""

    def __init__(self, store: Store, renderer: Renderer) -> None:
        self._store, self._renderer = store, renderer

    def words(self, items: Sequence[Item]) -> Message:
        """What is said, as plain text."""
        return message(
            Voice.of(spoken(items[0].language), html=False),
            [told(item) for item in items],
            self._renderer.link,
        )

    def data(self, items: Sequence[Item]) -> dict[str, str]:
        """What the program that gets it needs: what it is about, and where it leads."""
        first = items[0]
        accepting = len(items) == 1 and first.notice.template in INVITING
        return {
            "kind": first.notice.template,
            "notice_id": str(first.notice_id),
            "share_id": str(first.notice.share_id),
            "tag": topic(items),
            "url": self._renderer.link(told(first), "accept" if accepting else "home"),
        }

    async def refused(self, target: str, error: DeferredError) -> None:
        """We are refused there; raises what follows from it."""
        if await self._store.refuse_subscription(target, _REFUSALS):
            raise RefusedError("SUBSCRIPTION_GONE", error.message, error.reply, gone=True) from None
        raise error


def topic(items: Sequence[Item]) -> str:
    """What a newer message replaces: the same share's, or of several the same pair's (32 characters)."""
    shares = {str(item.notice.share_id) for item in items}
    about = shares.pop() if len(shares) == 1 else pair(items[0].notice)
    return encoded(hashlib.sha256(about.encode()).digest())[:32]


def time_to_live(items: Sequence[Item]) -> int:
    """For how many seconds it is worth delivering: an invitation while it is open, other news for a day."""
    first = items[0]
    if first.notice.template in INVITING:
        left = link_ends_at(first.notice.event_time, first.invitation) - first.looked_at
    else:
        left = _OTHER_TTL
    return max(0, min(int(left.total_seconds()), MAX_TTL))


class WebPushWay(_Pushed):
    """One push to one browser."""

    channel = Channel.WEB_PUSH

    def __init__(self, channel: WebPushChannel, store: Store, renderer: Renderer) -> None:
        super().__init__(store, renderer)
        self._channel = channel

    @asynccontextmanager
    async def sent(self, items: Sequence[Item]) -> AsyncGenerator[None]:
        """See `delivery.Way`."""
        first = items[0]
        if first.endpoint is None or first.public_key is None or first.auth_secret is None:
            raise RefusedError("SUBSCRIPTION_GONE", "The subscription was deleted.")
        words = self.words(items)
        said: dict[str, object] = {"title": words.headline, **self.data(items)}
        if len(words.actions) > 1:
            said["actions"] = [{"title": link.label, "url": link.url} for link in words.actions]
        payload = json.dumps({"body": words.preview, **said}, ensure_ascii=False).encode()
        if len(payload) > MAX_PAYLOAD:
            payload = json.dumps(said, ensure_ascii=False).encode()
        push = Push(
            endpoint=first.endpoint,
            public_key=first.public_key,
            auth_secret=first.auth_secret,
            payload=payload,
            ttl=time_to_live(items),
            urgency="high" if first.notice.template in SECURITY else "normal",
            topic=topic(items),
        )
        try:
            await self._channel.send(push)
        except DeferredError as error:
            if error.code != "PUSH_FORBIDDEN":
                raise
            await self.refused(first.target, error)
        yield
        await self._store.accept_subscription(first.target)


class FcmWay(_Pushed):
    """One push to one app."""

    channel = Channel.FCM

    def __init__(self, channel: FcmChannel, store: Store, renderer: Renderer) -> None:
        super().__init__(store, renderer)
        self._channel = channel

    @asynccontextmanager
    async def sent(self, items: Sequence[Item]) -> AsyncGenerator[None]:
        """See `delivery.Way`."""
        first = items[0]
        if first.endpoint is None:
            raise RefusedError("SUBSCRIPTION_GONE", "The subscription was deleted.")
        words = self.words(items)
        await self._channel.send(
            AppPush(
                token=first.endpoint,
                title=words.headline,
                body=words.preview,
                data=self.data(items),
                ttl=time_to_live(items),
                urgent=first.notice.template in SECURITY,
                collapse=topic(items),
            )
        )
        yield
