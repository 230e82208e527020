"""On which ways a notice goes to a person, and when. Pure.

| way | who has it | unless he says otherwise |
|---|---|---|
| e-mail | a contact or account with an e-mail address | every notice |
| SMS | a contact or account with a telephone number only | invitations |
| Web Push, FCM | an account, each subscription | every notice |

Quiet hours, in the account's own zone, put off what is no security notice until they end. Notices of one
sharer and one recipient go together: those of one bulk operation, once no more has come for a while; others
at once, and what follows within the same while when it is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from contracts.contacts import is_phone
from notifier.planner import INVITING, SECURITY, TO_SHARER, Channel, Notice, Template

BULK_LONGEST: Final = timedelta(minutes=5)
"""So long a bulk operation may keep the first of its notices waiting for the last."""

Choices = Mapping[tuple[Template, Channel], bool]
"""What a person has said about kinds of notice and ways; what is not in it is as `by_default`."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From ``begins`` until ``ends`` (local times of ``zone``, an IANA name) nobody wants to be disturbed."""

    begins: time
    ends: time
    zone: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where an account's pushes go."""

    subscription_id: str
    channel: Channel


@dataclass(frozen=True, slots=True)
class Person:
    """To whom a notice goes: his address (canonical; None: none), what he chose, and his subscriptions."""

    address: str | None
    choices: Choices = field(default_factory=dict[tuple[Template, Channel], bool])
    quiet: QuietHours | None = None
    subscriptions: Sequence[Subscription] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One delivery: the way, where to (a subscription's id; empty: the person's address), from when on."""

    channel: Channel
    target: str
    not_before: datetime


def by_default(template: Template, channel: Channel) -> bool:
    """Whether a kind of notice takes a way when nobody has said anything about it."""
    return channel is not Channel.SMS or template in INVITING


def routes(notice: Notice, person: Person, now: datetime) -> tuple[Route, ...]:
    """All deliveries of a notice."""
    if not notice.outside:
        return ()
    ways: list[tuple[Channel, str]] = []
    if person.address is not None:
        ways.append((Channel.SMS if is_phone(person.address) else Channel.EMAIL, ""))
    ways += [(item.channel, item.subscription_id) for item in person.subscriptions]
    begin = undisturbed(notice.template, person.quiet, now)
    return tuple(
        Route(channel, target, begin)
        for channel, target in ways
        if person.choices.get((notice.template, channel), by_default(notice.template, channel))
    )


def undisturbed(template: Template, quiet: QuietHours | None, now: datetime) -> datetime:
    """From when on such a notice may disturb its reader: ``now``, or when his quiet hours end."""
    return now if template in SECURITY or quiet is None else after_quiet(now, quiet)


def after_quiet(now: datetime, quiet: QuietHours) -> datetime:
    """``now``, or when the quiet hours that it lies in end; in UTC."""
    local = now.astimezone(ZoneInfo(quiet.zone))
    at = local.time()
    if quiet.begins <= quiet.ends:
        within, ends_tomorrow = quiet.begins <= at < quiet.ends, False
    else:  # over midnight
        within, ends_tomorrow = at >= quiet.begins or at < quiet.ends, at >= quiet.begins
    if not within:
        return now
    day = local.date() + timedelta(days=1) if ends_tomorrow else local.date()
    # When clocks are put back, an hour comes twice: who is in the second is not sent to the end of the first.
    ends = datetime.combine(day, quiet.ends, tzinfo=local.tzinfo).replace(fold=local.fold)
    return ends.astimezone(UTC)


def pair(notice: Notice) -> str:
    """Of whom and to whom it is: notices that have this in common may go together."""
    side = "sharer" if notice.template in TO_SHARER else "recipient"
    return f"{notice.owner_account_id} {notice.contact_id} {side}"


def due_together(
    route: Route, notice: Notice, last: datetime | None, now: datetime, gap: timedelta
) -> datetime:
    """When a delivery is due, so that what belongs together goes together.

    ``last`` is when the latest delivery of the same pair on the same way became due, if within ``gap``.
    """
    if notice.operation is not None:
        return max(route.not_before, now + gap)
    if last is not None and gap:
        return max(route.not_before, last if last > now else last + gap)
    return route.not_before
