"""What becomes of shares with their device and their accounts, as the directories have them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.events import ChangeReason, RevokeReason, ShareChanged, ShareExpired, ShareRevoked
from contracts.permissions import AllServices, Permission, Scope, SomeServices, Terms
from share_command.domain import (
    Device,
    Share,
    State,
    effective,
    evolve,
    follow_account_deletion,
    follow_device,
)

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIVE = frozenset({Permission.LIVE_VIEW})
ENDED: tuple[State, ...] = ("rejected", "revoked", "left", "expired")


def share(state: State, scope: Scope, ends_at: datetime | None = None) -> Share:
    return Share(
        uuid4(), "cam", uuid4(), "owner", state, Terms(scope=scope, scripting=True, ends_at=ends_at),
        version=3, invitation_version=2, told_at=NOW - timedelta(days=1), expires_at=NOW + timedelta(days=9),
        account_id="ann" if state == "active" else None,
    )  # fmt: skip


def device(*services: str, owner: str = "owner") -> Device:
    return Device("cam", owner, dict.fromkeys(services))


def some(**services: Any) -> SomeServices:
    return SomeServices(services=services)


TABLE: list[tuple[Scope, Device | None, RevokeReason | Scope | None]] = [
    (AllServices(), None, RevokeReason.DEVICE_REMOVED),
    (some(s1="all"), None, RevokeReason.DEVICE_REMOVED),
    (AllServices(), device("s1", owner="new"), RevokeReason.OWNERSHIP_TRANSFERRED),
    (some(s9="all"), device("s1", owner="new"), RevokeReason.OWNERSHIP_TRANSFERRED),
    (AllServices(), device("s1"), None),
    (AllServices(permissions=LIVE), device(), None),
    (some(s1="all"), device("s1", "s2"), None),
    (some(s1="all", s2=LIVE), device("s2"), some(s2=LIVE)),
    (some(s1="all", s2=LIVE, s3="all"), device("s1", "s3", "s4"), some(s1="all", s3="all")),
    (some(s1="all"), device("s2"), RevokeReason.SERVICE_REMOVED),
    (some(s1="all", s2="all"), device(), RevokeReason.SERVICE_REMOVED),
]


@pytest.mark.parametrize("state", ["requested", "active"])
@pytest.mark.parametrize(("scope", "now", "expected"), TABLE)
def test_a_share_follows_its_device(
    state: State, scope: Scope, now: Device | None, expected: RevokeReason | Scope | None
) -> None:
    before = share(state, scope)
    event = follow_device(before, now, NOW)
    if expected is None:
        assert event is None
    elif isinstance(expected, RevokeReason):
        assert isinstance(event, ShareRevoked)
        assert (event.reason, event.owner_account_id) == (expected, "owner")
        assert event.account_id == before.account_id
    else:
        assert isinstance(event, ShareChanged)
        assert (event.reason, event.state) == (ChangeReason.SERVICE_REMOVED, state)
        assert event.terms == before.terms.model_copy(update={"scope": expected}), "nothing else of it"
        assert not event.notify
        after = evolve(before, event, 4, NOW)
        assert (after.told_at, after.expires_at) == (before.told_at, before.expires_at)
        assert after.invitation_version == (4 if state == "requested" else 2), "accepted as it is now"
        assert follow_device(after, now, NOW) is None, "once"


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("now", [None, device(owner="new"), device()])
def test_what_has_ended_follows_nothing(state: State, now: Device | None) -> None:
    before = share(state, some(s1="all"))
    assert follow_device(before, now, NOW) is None
    assert follow_account_deletion(before, NOW) is None


@pytest.mark.parametrize("state", ["requested", "active"])
@pytest.mark.parametrize("now", [None, device(owner="new"), device(), device("s1")])
def test_time_comes_first_here_too(state: State, now: Device | None) -> None:
    before = share(state, some(s1="all"), ends_at=NOW)
    assert isinstance(follow_device(before, now, NOW), ShareExpired)
    assert isinstance(follow_account_deletion(before, NOW), ShareExpired)


@pytest.mark.parametrize("state", ["requested", "active"])
def test_a_share_ends_with_an_account_of_its(state: State) -> None:
    before = share(state, AllServices())
    event = follow_account_deletion(before, NOW)
    assert isinstance(event, ShareRevoked)
    assert (event.reason, event.account_id) == (RevokeReason.ACCOUNT_DELETED, before.account_id)


CAMERA = frozenset({Permission.LIVE_VIEW, Permission.PLAYBACK})
PLAY = frozenset({Permission.PLAYBACK})
SCRIPTING = frozenset({Permission.SCRIPTING})


@pytest.mark.parametrize(
    ("scope", "scripting", "supported", "expected"),
    [
        (AllServices(), False, {"s1": CAMERA, "s2": PLAY}, {"s1": CAMERA, "s2": PLAY}),
        (AllServices(permissions=LIVE), False, {"s1": CAMERA, "s2": PLAY}, {"s1": LIVE}),
        (AllServices(permissions=LIVE), True, {"s2": PLAY}, {"s2": SCRIPTING}),
        (some(s1="all"), True, {"s1": CAMERA, "s2": PLAY}, {"s1": CAMERA | SCRIPTING}),
        (some(s1=LIVE, s3="all"), False, {"s1": CAMERA}, {"s1": LIVE}),
        (some(s1=LIVE), False, {"s1": None, "s2": None}, {"s1": LIVE}),
        (AllServices(), False, {"s1": None}, {"s1": "all"}),
        (AllServices(), False, {}, {}),
    ],
)
def test_what_terms_give(
    scope: Scope,
    scripting: bool,
    supported: dict[str, frozenset[Permission] | None],
    expected: dict[str, Any],
) -> None:
    terms = Terms(scope=scope, scripting=scripting)
    assert effective(terms, Device("cam", "owner", supported)) == expected
    assert effective(None, Device("cam", "owner", supported)) == {}
    assert effective(terms, None) == {}
