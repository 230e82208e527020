"""The inbox over HTTP, for the portal: entries, preferences, subscriptions (docs/architecture.md)."""

import base64
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Annotated, Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from contracts.base import Moment
from contracts.contacts import display_address
from contracts.permissions import Terms
from notifier import unsubscribing
from notifier.channels.web_push import is_allowed, require_keys
from notifier.planner import Channel, Template
from notifier.routing import by_default
from notifier.store.inbox import Chosen, Inboxes, Mark
from servicekit.deleted import AccountDeletedError, LivingCallers
from servicekit.http import ApiError

_MOST_MARKED: Final = 1000
_LATER_MOST: Final = timedelta(days=90)


class Person(BaseModel):
    """Who shares."""

    account_id: str
    name: str | None


class Entry(BaseModel):
    """One notice in an inbox, with what has become of its share."""

    notice_id: UUID
    kind: Template
    at: datetime
    happened_at: datetime
    read: bool
    later_until: datetime | None
    operation: str | None = Field(description="Entries that have it in common came of one bulk share.")
    share_id: UUID
    device_id: str
    device_name: str | None
    sharer: Person
    recipient: str | None = Field(description="The address that was invited; to the sharer only.")
    state: Literal["requested", "accepted", "ended"]
    invitation_version: int
    open: bool = Field(description="Whether the invitation can be accepted now.")
    expires_at: datetime | None
    terms: Terms


class Page(BaseModel):
    """Entries, the newest first; `next` continues the list, null: nothing comes."""

    items: list[Entry]
    next: str | None
    unread: int = Field(description="How many are not read, counted to 100.")


class Marking(BaseModel):
    """What to do with entries. `later` needs `until`: they are out of sight that long."""

    model_config = ConfigDict(extra="forbid")
    notice_ids: Annotated[list[UUID], Field(min_length=1, max_length=_MOST_MARKED)]
    mark: Mark
    until: Moment | None = None

    @model_validator(mode="after")
    def _later_has_an_end(self) -> "Marking":
        if (self.mark == "later") != (self.until is not None):
            raise ValueError("`until` belongs to `later`, and `later` needs it")
        if self.until is not None and self.until > datetime.now(UTC) + _LATER_MOST:
            raise ValueError("`until` must be within 90 days")
        return self


class QuietHours(BaseModel):
    """Local times between which nobody wants to be disturbed; over midnight when `until` is the earlier."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    begins: Annotated[time, Field(alias="from")]
    ends: Annotated[time, Field(alias="until")]

    @model_validator(mode="after")
    def _is_a_time_of_day(self) -> "QuietHours":
        if self.begins.tzinfo is not None or self.ends.tzinfo is not None:
            raise ValueError("times of day have no zone of their own")
        if self.begins == self.ends:
            raise ValueError("`from` and `until` must differ")
        return self


class Preferences(BaseModel):
    """Language, zone, quiet hours, and which kinds of notice come on which ways. The inbox has all."""

    model_config = ConfigDict(extra="forbid")
    language: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}$")] | None
    ) = None
    time_zone: str | None = None
    quiet_hours: QuietHours | None = None
    wanted: dict[Template, dict[Channel, bool]] = Field(default_factory=dict[Template, dict[Channel, bool]])

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in _zones():
            raise ValueError("must be an IANA name such as Europe/Berlin")
        return value

    @model_validator(mode="after")
    def _quiet_needs_a_zone(self) -> "Preferences":
        if self.quiet_hours is not None and self.time_zone is None:
            raise ValueError("quiet hours need a time_zone")
        return self


class WebPushKeys(BaseModel):
    """As `PushSubscription.toJSON()` gives them."""

    p256dh: Annotated[str, StringConstraints(max_length=200)]
    auth: Annotated[str, StringConstraints(max_length=100)]


class Subscribing(BaseModel):
    """A browser (`endpoint` and `keys`) or an app (`fcm_token`)."""

    model_config = ConfigDict(extra="forbid")
    endpoint: Annotated[str, StringConstraints(max_length=2000)] | None = None
    keys: WebPushKeys | None = None
    fcm_token: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{10,4000}$")] | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Subscribing":
        if (self.endpoint is None) != (self.keys is None) or (self.endpoint is None) == (
            self.fcm_token is None
        ):
            raise ValueError("give `endpoint` with `keys`, or `fcm_token`")
        return self


class SubscriptionMade(BaseModel):
    """The id by which it is taken away."""

    subscription_id: UUID


class SubscriptionKept(BaseModel):
    """One subscription; the endpoint is a secret of the browser's and not told again."""

    subscription_id: UUID
    channel: Channel
    created_at: datetime


class SubscriptionList(BaseModel):
    """The account's, and the key that browsers subscribe with; null: there is no Web Push here."""

    items: list[SubscriptionKept]
    web_push_key: str | None


class Unsubscribing(BaseModel):
    """The token of an unsubscribe link."""

    token: Annotated[str, StringConstraints(max_length=4000)]


class Unsubscribed(BaseModel):
    """Which kinds of notice the link is about."""

    kinds: list[Template]


class ErrorBody(BaseModel):
    """`code` is stable; `message` is for a person and says what to do."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """What every refusal is answered with (docs/errors.md)."""

    error: ErrorBody


_REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": "Refused; see `error.code`."}
    for status in (401, 403, 404, 413, 422, 503)
}


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def build_router(
    callers: LivingCallers,
    inboxes: Inboxes,
    *,
    link_secret: str,
    push_key: str | None,
    push_hosts: tuple[str, ...],
    app_pushes: bool,
) -> APIRouter:
    """The endpoints; ``callers`` tells for whom; ``push_key`` is what browsers subscribe with."""
    router = APIRouter(prefix="/v1", responses=_REFUSALS)
    router.include_router(_inbox(callers, inboxes))
    router.include_router(_preferences(callers, inboxes, link_secret))
    router.include_router(_subscriptions(callers, inboxes, push_key, push_hosts, app_pushes=app_pushes))
    return router


def _inbox(callers: LivingCallers, inboxes: Inboxes) -> APIRouter:
    async def page(
        account_id: Annotated[str, Depends(callers)],
        size: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
        unread: Annotated[bool, Query(description="Those that are not read only.")] = False,
        put_off: Annotated[bool, Query(description="Also those that were put off.")] = False,
    ) -> Page:
        """The caller's inbox."""
        rows = await inboxes.page(
            account_id, size, None if cursor is None else _read_cursor(cursor), unread=unread, put_off=put_off
        )
        last = rows[-1] if len(rows) == size else None
        return Page(
            items=[_entry(dict(row)) for row in rows],
            next=None if last is None else _cursor(last["created_at"], last["notice_id"]),
            unread=await inboxes.unread(account_id),
        )

    async def mark(account_id: Annotated[str, Depends(callers)], body: Marking) -> Response:
        """Mark entries as read or not, or put them off."""
        await inboxes.mark(account_id, body.notice_ids, body.mark, body.until)
        return Response(status_code=204)

    router = APIRouter()
    router.add_api_route("/inbox", page)
    router.add_api_route("/inbox/marks", mark, methods=["POST"], status_code=204, response_class=Response)
    return router


def _entry(row: Mapping[str, object]) -> Entry:
    values = dict(row)
    address = values["address"] if values["to_sharer"] else None
    return Entry.model_validate(
        {
            **values,
            "kind": values["template"],
            "at": values["created_at"],
            "happened_at": values["event_time"],
            "read": values["read_at"] is not None,
            "sharer": {"account_id": values["owner_account_id"], "name": values["owner_name"]},
            "recipient": display_address(address) if isinstance(address, str) else None,
            "terms": Terms.model_validate_json(str(values["terms"])),
        }
    )


def _cursor(at: datetime, notice_id: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()} {notice_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[datetime, UUID]:
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        moment, _, identity = plain.partition(" ")
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC), UUID(identity)
    except (ValueError, OverflowError):
        raise ApiError("INVALID_CURSOR", 422, "The cursor must be sent as it was given.") from None


def _preferences(callers: LivingCallers, inboxes: Inboxes, link_secret: str) -> APIRouter:
    async def preferences(account_id: Annotated[str, Depends(callers)]) -> Preferences:
        """All kinds and ways, with what holds for each."""
        chosen = await inboxes.chosen(account_id)
        said = await inboxes.preferences(f"account {account_id}")
        return Preferences(
            language=chosen.language,
            time_zone=chosen.time_zone,
            quiet_hours=None
            if chosen.quiet_from is None or chosen.quiet_until is None
            else QuietHours(begins=chosen.quiet_from, ends=chosen.quiet_until),
            wanted={
                template: {
                    channel: said.get((template, channel), by_default(template, channel))
                    for channel in Channel
                }
                for template in Template
            },
        )

    async def set_preferences(account_id: Annotated[str, Depends(callers)], body: Preferences) -> Response:
        """Set language, zone and quiet hours, and those kinds and ways that are named."""
        quiet = body.quiet_hours
        chosen = Chosen(
            body.language, body.time_zone, quiet and quiet.begins.replace(microsecond=0),
            quiet and quiet.ends.replace(microsecond=0),
        )  # fmt: skip
        if body.time_zone is not None:
            ZoneInfo(body.time_zone)  # what is listed can be read
        await inboxes.choose(account_id, chosen)
        await inboxes.prefer(
            f"account {account_id}",
            {
                (template, channel): wanted
                for template, ways in body.wanted.items()
                for channel, wanted in ways.items()
            },
        )
        return Response(status_code=204)

    def read(token: str) -> tuple[str, tuple[Template, ...]]:
        found = unsubscribing.read(token, link_secret)
        if found is None:
            raise ApiError("INVALID_LINK", 404, "This link is not valid. Use the one in the newest mail.")
        return found

    async def look(body: Unsubscribing) -> Unsubscribed:
        """What an unsubscribe link is about; changes nothing. The token is the authority: nobody signs in."""
        _, kinds = read(body.token)
        return Unsubscribed(kinds=list(kinds))

    async def unsubscribe(body: Unsubscribing) -> Unsubscribed:
        """Send whom the link was sent no more mails of those kinds (RFC 8058)."""
        reader, kinds = read(body.token)
        with suppress(AccountDeletedError):  # nothing is sent to it anyway
            await inboxes.prefer(reader, {(kind, Channel.EMAIL): False for kind in kinds})
        return Unsubscribed(kinds=list(kinds))

    router = APIRouter()
    router.add_api_route("/preferences", preferences, response_model_by_alias=True)
    router.add_api_route(
        "/preferences", set_preferences, methods=["PUT"], status_code=204, response_class=Response
    )
    router.add_api_route("/unsubscriptions/look", look, methods=["POST"])
    router.add_api_route("/unsubscriptions", unsubscribe, methods=["POST"])
    return router


def _subscriptions(
    callers: LivingCallers,
    inboxes: Inboxes,
    push_key: str | None,
    push_hosts: tuple[str, ...],
    *,
    app_pushes: bool,
) -> APIRouter:
    async def subscriptions(account_id: Annotated[str, Depends(callers)]) -> SubscriptionList:
        """Where the caller gets pushes, and the key to subscribe with."""
        rows = await inboxes.subscriptions(account_id)
        return SubscriptionList(
            items=[SubscriptionKept.model_validate(dict(row)) for row in rows], web_push_key=push_key
        )

    async def subscribe(account_id: Annotated[str, Depends(callers)], body: Subscribing) -> SubscriptionMade:
        """Add a browser or an app; the same again is the same."""
        if body.fcm_token is not None:
            if not app_pushes:
                raise _no_such_way("apps")
            made = await inboxes.subscribe(account_id, Channel.FCM, body.fcm_token, "", "")
            return SubscriptionMade(subscription_id=made)
        assert body.endpoint is not None
        assert body.keys is not None
        if push_key is None:
            raise _no_such_way("browsers")
        try:
            require_keys(body.keys.p256dh, body.keys.auth)
        except ValueError:
            raise ApiError(
                "INVALID_SUBSCRIPTION", 422, "The keys are not those of a push subscription (RFC 8291)."
            ) from None
        if not is_allowed(body.endpoint, push_hosts):
            raise ApiError(
                "INVALID_SUBSCRIPTION", 422, "The endpoint is at no push service that is known here."
            )
        made = await inboxes.subscribe(
            account_id, Channel.WEB_PUSH, body.endpoint, body.keys.p256dh, body.keys.auth
        )
        return SubscriptionMade(subscription_id=made)

    async def unsubscribe(account_id: Annotated[str, Depends(callers)], subscription_id: UUID) -> Response:
        """Take one away; what is not there is a success."""
        await inboxes.unsubscribe(account_id, subscription_id)
        return Response(status_code=204)

    router = APIRouter()
    router.add_api_route("/push-subscriptions", subscriptions)
    router.add_api_route("/push-subscriptions", subscribe, methods=["POST"], status_code=201)
    router.add_api_route(
        "/push-subscriptions/{subscription_id}",
        unsubscribe, methods=["DELETE"], status_code=204, response_class=Response,
    )  # fmt: skip
    return router


def _no_such_way(whom: str) -> ApiError:
    return ApiError("NO_CHANNEL", 422, f"Pushes to {whom} are not set up here.")
