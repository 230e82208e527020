"""Start and end, the life of an invitation, when it may be sent again: time is judged before the command."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

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
    ServiceChange,
)
from contracts.events import (
    AnyShareEvent,
    InvitationResent,
    ShareAccepted,
    ShareChanged,
    ShareExpired,
    ShareRequested,
)
from contracts.permissions import AllServices, Terms, TermsOrder
from share_command import domain
from share_command.domain import Device, Rules, Share, State, Subject, due_at, evolve, overdue
from share_command.errors import Conflict, DeviceNotFound, InvalidPeriod, RateLimited, ShareCommandError

SHARE_ID, CONTACT = uuid4(), uuid4()
DEVICE = Device("cam", "owner", dict.fromkeys(("s1", "s2")))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
RULES = Rules(invitation_life=7 * DAY)


def share(state: State, **fields: Any) -> Share:
    terms = Terms(
        scope=AllServices(), starts_at=fields.pop("starts_at", None), ends_at=fields.pop("ends_at", None)
    )
    account = "ann" if state in ("active", "left") else None
    more: dict[str, Any] = {"version": 4, "invitation_version": 4, "told_at": NOW - HOUR, **fields}
    return Share(SHARE_ID, "cam", CONTACT, "owner", state, terms, account_id=account, **more)


def subject(actor: str, accepting: str | None = None) -> Subject:
    return Subject("cam", CONTACT, uuid4(), DEVICE, actor == "ann", accepting=accepting)


def decide(
    before: Share | None, command: AnyCommand, *, now: datetime = NOW, accepting: str | None = None
) -> tuple[AnyShareEvent, ...]:
    return domain.decide(before, command, subject(command.actor, accepting), now=now, rules=RULES)


def request(**fields: Any) -> RequestShare:
    return RequestShare(
        command_id="c", actor="owner", device_ids=("cam",), recipients=("ann@x.test",), **fields
    )


def change(version: int = 4, **terms: Any) -> ChangeShare:
    return ChangeShare(
        command_id="c", actor="owner", device_id="cam", share_id=SHARE_ID, expected_version=version,
        terms=TermsOrder.model_validate({"scope": {"kind": "all"}, **terms}),
    )  # fmt: skip


NAMED: dict[str, Any] = {"command_id": "c", "device_id": "cam", "share_id": SHARE_ID}
ACCEPT = AcceptShare(**NAMED, actor="ann", invitation_version=4)
REJECT = RejectShare(**NAMED, actor="ann")
RESEND = ResendInvitation(**NAMED, actor="owner")
REVOKE = RevokeShare(command_id="c", actor="owner", device_ids=("cam",), recipients=("ann@x.test",))
REMOVE = RemoveRecipient(command_id="c", actor="owner", recipient="ann@x.test")
LEAVE = LeaveShare(command_id="c", actor="ann", device_ids=("cam",))


# Start and end


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [
        (None, NOW),
        (None, NOW - SECOND),
        (NOW + HOUR, NOW + HOUR),
        (NOW + 2 * HOUR, NOW + HOUR),
        (NOW - 2 * HOUR, NOW - HOUR),
    ],
)
def test_an_end_leaves_some_time(starts_at: datetime | None, ends_at: datetime) -> None:
    period: dict[str, Any] = {"starts_at": starts_at, "ends_at": ends_at}
    for before, command in (
        (None, request(**period)),
        (share("requested"), request(**period)),
        (share("active"), request(**period)),
        (share("requested"), change(**period)),
        (share("active"), change(**period)),
    ):
        with pytest.raises(InvalidPeriod):
            decide(before, command)


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [
        (None, None),
        (NOW - DAY, None),
        (NOW + DAY, None),
        (None, NOW + SECOND),
        (NOW - DAY, NOW + SECOND),
        (NOW + HOUR, NOW + 2 * HOUR),
    ],
)
def test_periods_that_are_kept(starts_at: datetime | None, ends_at: datetime | None) -> None:
    (invited,) = decide(None, request(starts_at=starts_at, ends_at=ends_at))
    assert isinstance(invited, ShareRequested)
    assert (invited.terms.starts_at, invited.terms.ends_at) == (starts_at, ends_at)


def test_a_request_leaves_a_period_and_a_change_sets_it() -> None:
    before = share("active", starts_at=NOW - DAY, ends_at=NOW + DAY)
    (event,) = decide(before, request(scripting=True))
    assert isinstance(event, ShareChanged)
    assert (event.terms.starts_at, event.terms.ends_at) == (NOW - DAY, NOW + DAY)
    (event,) = decide(before, request(ends_at=NOW + HOUR))
    assert isinstance(event, ShareChanged)
    assert (event.terms.starts_at, event.terms.ends_at) == (NOW - DAY, NOW + HOUR)
    (event,) = decide(before, change())
    assert isinstance(event, ShareChanged)
    assert (event.terms.starts_at, event.terms.ends_at) == (None, None), "what is not named is not there"


def test_a_new_end_must_come_after_a_start_that_stays() -> None:
    with pytest.raises(InvalidPeriod):
        decide(share("active", starts_at=NOW + DAY), request(ends_at=NOW + HOUR))


# Time comes first

OVERDUE: list[tuple[str, Share]] = [
    ("invitation", share("requested", expires_at=NOW)),
    ("invited share", share("requested", ends_at=NOW, expires_at=NOW + DAY)),
    ("active share", share("active", ends_at=NOW)),
    ("long ago", share("active", ends_at=NOW - 400 * DAY)),
]
AFTERWARDS: list[tuple[AnyCommand, list[str] | type[ShareCommandError]]] = [
    (request(ends_at=NOW + DAY), ["ShareExpired", "ShareRequested"]),
    (ACCEPT, Conflict),
    (REJECT, Conflict),
    (change(), Conflict),
    (RESEND, Conflict),
    (REVOKE, ["ShareExpired"]),
    (REMOVE, ["ShareExpired"]),
    (LEAVE, ["ShareExpired"]),
]


@pytest.mark.parametrize(("what", "before"), OVERDUE)
@pytest.mark.parametrize(("command", "expected"), AFTERWARDS)
def test_what_is_overdue_has_ended_before_the_command(
    what: str, before: Share, command: AnyCommand, expected: list[str] | type[ShareCommandError]
) -> None:
    if isinstance(expected, type):
        with pytest.raises(expected) as refused:
            decide(before, command)
        if isinstance(refused.value, Conflict):
            assert refused.value.details["state"] == "expired", what
    else:
        events = decide(before, command)
        assert [type(event).__name__ for event in events] == expected
        assert isinstance(events[0], ShareExpired)
        assert events[0].account_id == before.account_id


def test_a_share_that_was_overdue_begins_with_nothing_of_before() -> None:
    before = share("active", ends_at=NOW - SECOND)
    _, invited = decide(before, request())
    assert isinstance(invited, ShareRequested)
    assert invited.terms == Terms(scope=AllServices()), "neither its end nor anything else"


@pytest.mark.parametrize("state", ["rejected", "revoked", "left", "expired"])
def test_what_has_ended_does_not_end_again(state: State) -> None:
    assert overdue(share(state, ends_at=NOW - DAY, expires_at=NOW - DAY), NOW) is None


def test_the_end_is_not_part_of_it_and_the_instant_before_is() -> None:
    before = share("active", ends_at=NOW)
    assert overdue(before, NOW) is not None
    assert overdue(before, NOW - timedelta(microseconds=1)) is None


def test_when_it_is_due() -> None:
    assert due_at(share("requested", ends_at=NOW + DAY, expires_at=NOW + HOUR)) == NOW + HOUR
    assert due_at(share("requested", ends_at=NOW + HOUR, expires_at=NOW + DAY)) == NOW + HOUR
    assert due_at(share("active", ends_at=NOW + DAY, expires_at=NOW + HOUR)) == NOW + DAY
    assert due_at(share("active")) is None
    assert due_at(share("requested")) is None
    assert due_at(share("revoked", ends_at=NOW)) is None


# The life of an invitation


def test_an_invitation_lives_as_long_as_is_usual_or_as_it_says() -> None:
    (invited,) = decide(None, request())
    assert isinstance(invited, ShareRequested)
    assert invited.expires_at == NOW + RULES.invitation_life
    (invited,) = decide(None, request(expires_at=NOW + HOUR))
    assert isinstance(invited, ShareRequested)
    assert invited.expires_at == NOW + HOUR
    with pytest.raises(InvalidPeriod):
        decide(None, request(expires_at=NOW))


def test_acceptance_ends_the_life_of_the_invitation_and_not_of_the_share() -> None:
    before = share("requested", expires_at=NOW + HOUR, ends_at=NOW + DAY)
    (accepted,) = decide(before, ACCEPT)
    now = evolve(before, accepted, 5, NOW)
    assert (now.state, due_at(now)) == ("active", NOW + DAY)


def test_new_terms_are_a_new_invitation() -> None:
    before = share("requested", expires_at=NOW + HOUR)
    for command in (request(scripting=True), change(scripting=True)):
        (event,) = decide(before, command)
        assert isinstance(event, ShareChanged)
        assert event.expires_at == NOW + HOUR, "and have no more time than there was"
        now = evolve(before, event, 5, NOW)
        assert (now.invitation_version, now.told_at, now.expires_at) == (5, NOW, event.expires_at)
    assert decide(before, request(expires_at=NOW + HOUR)) == (), "as it is"
    (event,) = decide(before, request(expires_at=NOW + DAY))
    assert isinstance(event, ShareChanged)
    assert (event.expires_at, event.terms) == (NOW + DAY, before.terms)


# Sending it again


def test_again_at_most_once_a_minute() -> None:
    told = share("requested", told_at=NOW, expires_at=NOW + DAY)
    for seconds, wait in ((0, 60), (1, 59), (59, 1), (59.5, 1)):
        with pytest.raises(RateLimited) as refused:
            decide(told, RESEND, now=NOW + timedelta(seconds=seconds))
        assert refused.value.details == {"retry_after_seconds": wait}
    later = NOW + timedelta(minutes=1)
    (event,) = decide(told, RESEND, now=later)
    assert isinstance(event, InvitationResent)
    assert event.expires_at == later + RULES.invitation_life
    now = evolve(told, event, 5, later)
    assert (now.told_at, now.expires_at, now.version) == (later, event.expires_at, 5)
    assert (now.invitation_version, now.terms) == (4, told.terms), "what was to be accepted still is"
    with pytest.raises(RateLimited):
        decide(now, RESEND, now=later + SECOND)


def test_a_change_that_is_told_counts_and_one_that_is_not_does_not() -> None:
    before = share("requested", expires_at=NOW + DAY)
    (told,) = decide(before, request(scripting=True))
    with pytest.raises(RateLimited):
        decide(evolve(before, told, 5, NOW), RESEND)
    (quiet,) = decide(before, request(scripting=True, notify=False))
    assert decide(evolve(before, quiet, 5, NOW), RESEND)


def test_an_invitation_that_may_not_be_seen_is_not_sent_again() -> None:
    with pytest.raises(DeviceNotFound):
        decide(share("requested", told_at=NOW), RESEND.model_copy(update={"actor": "ann"}))


# Somebody who sees an old version, and somebody who always accepts


@pytest.mark.parametrize("state", ["requested", "active", "revoked", "left", "expired", "rejected"])
def test_an_edit_of_what_has_changed_is_told_what_it_is_now(state: State) -> None:
    before = share(state, version=9)
    with pytest.raises(Conflict) as refused:
        decide(before, change(version=8))
    assert refused.value.details == {
        "state": state,
        "version": 9,
        "invitation_version": 4,
        "terms": before.terms.model_dump(mode="json"),
    }


def test_whoever_always_accepts_has_accepted() -> None:
    events = decide(None, request(), accepting="ann")
    invited, accepted = events
    assert isinstance(invited, ShareRequested)
    assert isinstance(accepted, ShareAccepted)
    assert (accepted.account_id, accepted.automatic, accepted.share_id) == ("ann", True, invited.share_id)
    now: Share | None = None
    for version, event in enumerate(events, 1):
        now = evolve(now, event, version, NOW)
    assert now is not None
    assert (now.state, now.account_id, due_at(now)) == ("active", "ann", None)


@pytest.mark.parametrize(
    ("before", "command", "expected"),
    [
        (share("revoked"), request(), ["ShareRequested", "ShareAccepted"]),
        (share("requested"), request(scripting=True), ["ShareChanged", "ShareAccepted"]),
        (share("requested"), change(scripting=True), ["ShareChanged", "ShareAccepted"]),
        (share("requested"), request(), []),
        (share("requested"), change(scope={"kind": "some", "services": {}}), ["ShareRevoked"]),
        (share("active"), request(scripting=True), ["ShareChanged"]),
        (share("active"), change(scripting=True), ["ShareChanged"]),
        (share("active", ends_at=NOW), request(), ["ShareExpired", "ShareRequested", "ShareAccepted"]),
    ],
)
def test_what_is_accepted_by_rule(before: Share, command: AnyCommand, expected: list[str]) -> None:
    events = decide(before, command, accepting="ann")
    assert [type(event).__name__ for event in events] == expected


def test_nobody_accepts_his_own_by_rule() -> None:
    (invited,) = decide(None, request(), accepting="owner")
    assert isinstance(invited, ShareRequested)


def test_taking_something_out_of_an_invitation_gives_it_no_more_time() -> None:
    before = share("requested", expires_at=NOW + HOUR)
    service = next(iter(DEVICE.services))
    out = (ServiceChange(service_id=service, action="REMOVE"),)
    for command in (request(services=out), change(scope={"kind": "some", "services": {service: "all"}})):
        (event,) = decide(before, command)
        assert isinstance(event, ShareChanged)
        assert event.expires_at == NOW + HOUR


def test_new_words_are_a_change_that_the_next_editor_must_have_seen() -> None:
    before = share("active")
    words = change().model_copy(update={"message": "Only the gate."})
    (event,) = decide(before, words)
    assert isinstance(event, ShareChanged)
    assert event.terms == before.terms
    with pytest.raises(Conflict):
        decide(evolve(before, event, 5, NOW), words)
