"""On which ways people are told, and when."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.planner import Channel, Notice, Template
from notifier.routing import (
    Person,
    QuietHours,
    Route,
    Subscription,
    after_quiet,
    due_together,
    pair,
    routes,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MAIL, PHONE = "mailto:bob@example.com", "tel:+4915112345678"
PHONE_APP, BROWSER = Subscription("app", Channel.FCM), Subscription("browser", Channel.WEB_PUSH)
GAP = timedelta(seconds=10)


def notice(
    template: Template = Template.INVITATION, *, outside: bool = True, operation: str | None = None
) -> Notice:
    return Notice(
        event_id=UUID(int=1),
        contact_id=UUID(int=2),
        account_id=None,
        template=template,
        share_id=UUID(int=3),
        device_id="cam-1",
        owner_account_id="ann",
        version=1,
        event_time=NOW,
        outside=outside,
        operation=operation,
    )


def ways(chosen: Notice, person: Person) -> set[tuple[Channel, str]]:
    return {(route.channel, route.target) for route in routes(chosen, person, NOW)}


def test_everybody_is_told_on_every_way_that_he_has() -> None:
    person = Person(MAIL, subscriptions=(PHONE_APP, BROWSER))
    assert ways(notice(), person) == {
        (Channel.EMAIL, ""), (Channel.FCM, "app"), (Channel.WEB_PUSH, "browser")
    }  # fmt: skip
    assert ways(notice(), Person(None)) == set()


def test_what_is_silent_goes_nowhere() -> None:
    assert ways(notice(outside=False), Person(MAIL, subscriptions=(BROWSER,))) == set()


@pytest.mark.parametrize("template", Template)
def test_a_telephone_gets_invitations_and_what_its_owner_asked_for(template: Template) -> None:
    inviting = template in {Template.INVITATION, Template.INVITATION_CHANGED}
    assert ways(notice(template), Person(PHONE)) == ({(Channel.SMS, "")} if inviting else set())
    asked = Person(PHONE, choices={(template, Channel.SMS): True})
    assert ways(notice(template), asked) == {(Channel.SMS, "")}


def test_a_way_that_was_turned_off_for_a_kind_is_off_for_that_kind_only() -> None:
    person = Person(MAIL, choices={(Template.REVOKED, Channel.EMAIL): False}, subscriptions=(BROWSER,))
    assert ways(notice(Template.REVOKED), person) == {(Channel.WEB_PUSH, "browser")}
    assert ways(notice(Template.EXPIRED), person) == {(Channel.EMAIL, ""), (Channel.WEB_PUSH, "browser")}


@pytest.mark.parametrize(
    ("begins", "ends", "zone", "hour", "expected"),
    [
        ("22:00", "07:00", "Europe/Berlin", 12, "2026-03-01T12:00"),
        ("22:00", "07:00", "Europe/Berlin", 21, "2026-03-02T06:00"),
        ("22:00", "07:00", "Europe/Berlin", 4, "2026-03-01T06:00"),
        ("22:00", "07:00", "Europe/Berlin", 6, "2026-03-01T06:00"),
        ("13:00", "15:00", "Asia/Kolkata", 8, "2026-03-01T09:30"),
        ("13:00", "15:00", "Asia/Kolkata", 10, "2026-03-01T10:00"),
    ],
)
def test_quiet_hours_are_those_of_the_persons_own_zone(
    begins: str, ends: str, zone: str, hour: int, expected: str
) -> None:
    quiet = QuietHours(time.fromisoformat(begins), time.fromisoformat(ends), zone)
    now = NOW.replace(hour=hour)
    assert after_quiet(now, quiet) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-10-25T00:15", "2026-10-25T00:30"),  # 2:15 and 2:30 before 3:00 becomes 2:00
        ("2026-10-25T01:15", "2026-10-25T01:30"),  # the same an hour later
        ("2026-03-29T00:15", "2026-03-29T01:30"),  # 1:15; there is no 2:30, as 3:00 follows 1:59
    ],
)
def test_quiet_hours_end_in_the_hour_that_comes_twice_or_not_at_all(now: str, expected: str) -> None:
    quiet = QuietHours(time(22), time(2, 30), "Europe/Berlin")
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert after_quiet(moment, quiet) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@given(
    st.integers(-400 * 24 * 60, 400 * 24 * 60).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    st.times(), st.times(), st.sampled_from(["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "UTC"]),
)  # fmt: skip
def test_nobody_waits_longer_than_his_night(now: datetime, begins: time, ends: time, zone: str) -> None:
    quiet = QuietHours(begins, ends, zone)
    later = after_quiet(now, quiet)
    assert now <= later <= now + timedelta(hours=25)  # a night in which the clocks are set back
    assert after_quiet(later, quiet) in {later, later + timedelta(0)} or zone != "UTC"


@pytest.mark.parametrize("template", Template)
def test_security_notices_know_no_quiet_hours(template: Template) -> None:
    person = Person(MAIL, quiet=QuietHours(time(0), time(23, 59), "UTC"))
    (route,) = routes(notice(template), person, NOW)
    security = template in {Template.ACCEPTED, Template.FIRST_USE}
    assert route.not_before == (NOW if security else NOW.replace(hour=23, minute=59))


def test_the_first_goes_at_once_and_what_follows_waits_for_the_rest() -> None:
    route = Route(Channel.EMAIL, "", NOW)

    def due(chosen: Notice, last: datetime | None = None, gap: timedelta = GAP) -> datetime:
        return due_together(route, chosen, last, NOW, gap)

    assert due(notice()) == NOW
    assert due(notice(), NOW - timedelta(seconds=3)) == NOW + timedelta(seconds=7)
    assert due(notice(), NOW + timedelta(seconds=7)) == NOW + timedelta(seconds=7)
    assert due(notice(operation="bulk-1")) == NOW + GAP
    assert due(notice(), NOW - timedelta(seconds=3), timedelta(0)) == NOW
    night = Route(Channel.EMAIL, "", NOW + timedelta(hours=8))
    assert due_together(night, notice(), NOW, NOW, GAP) == night.not_before


def test_news_for_the_sharer_and_for_the_recipient_are_no_pair() -> None:
    assert pair(notice()) == pair(notice(Template.REVOKED)) != pair(notice(Template.ACCEPTED))
