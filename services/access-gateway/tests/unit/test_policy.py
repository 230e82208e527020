"""The decision: one test for each line of its list, and properties that hold for any input."""

import dataclasses
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.policy import (
    AccessRequest,
    Allowed,
    Freshness,
    Grant,
    Refusal,
    Refused,
    Verdict,
    applicable,
    granted,
    permission_for,
    verdict,
)
from contracts.permissions import Permission
from contracts.positions import Position

SHARE = UUID("01936b1e-0000-7000-8000-000000000001")
GRANT = Grant(Permission.CONNECT, True, "granted", "cam-1", 7, SHARE, 3, "10.0.0.5", 22, "ssh", frozenset())
DENIED = Grant(Permission.CONNECT, False, "no_grant")
MAX = 15.0


def decide(
    grant: Grant | None, *positions: str, age: float | None = 1.0, positions_applied: bool = False
) -> Verdict:
    request = AccessRequest("ann", "svc-1", tuple(Position.parse(each) for each in positions))
    return verdict(request, grant, freshness_age=age, max_staleness=MAX, positions_applied=positions_applied)


def test_a_granted_request_is_allowed_and_told_where_to() -> None:
    assert decide(GRANT) == Allowed(Permission.CONNECT, "cam-1", 7, SHARE, 3, "10.0.0.5", 22, "ssh")


def test_1_no_answer_from_the_grant_store_is_unavailable() -> None:
    assert decide(None, age=0.0) == Refused(Refusal.UNAVAILABLE)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("cam-1@7", None),
        ("cam-1@6", None),
        ("cam-1@8", Refusal.NOT_YET_VISIBLE),
        ("cam-2@99", None),  # another device's position says nothing of this one
    ],
)
def test_2_an_answer_older_than_the_position_is_not_given(position: str, expected: Refusal | None) -> None:
    answer = decide(GRANT, position)
    assert (answer.code if isinstance(answer, Refused) else None) is expected


def test_2_a_denial_counts_only_when_the_positions_are_proved_to_be_applied() -> None:
    assert decide(DENIED, "cam-1@1") == Refused(Refusal.NOT_YET_VISIBLE)
    assert decide(DENIED, "cam-1@1", positions_applied=True) == Refused(Refusal.ACCESS_DENIED)


@pytest.mark.parametrize("reason", ["no_grant", "quarantined", "anything new"])
def test_3_whatever_is_not_granted_is_denied_alike(reason: str) -> None:
    assert decide(dataclasses.replace(DENIED, reason=reason)) == Refused(Refusal.ACCESS_DENIED)


@pytest.mark.parametrize(
    "missing",
    ["device_id", "device_version", "partition", "target_host", "target_port", "protocol", "lacking"],
)
def test_3_a_grant_that_leaves_something_out_is_denied(missing: str) -> None:
    assert decide(dataclasses.replace(GRANT, **{missing: None})) == Refused(Refusal.ACCESS_DENIED)


def test_3_a_denial_that_carries_a_target_all_the_same_is_denied() -> None:
    assert decide(dataclasses.replace(GRANT, allowed=False)) == Refused(Refusal.ACCESS_DENIED)


def test_3_connect_does_not_open_a_camera() -> None:
    assert decide(dataclasses.replace(GRANT, protocol="rtsp")) == Refused(Refusal.ACCESS_DENIED)


@pytest.mark.parametrize("lacking", ["live_view", "playback", "two_way_audio"])
def test_3_a_plain_port_to_a_camera_is_for_who_lacks_nothing_of_its_stream(lacking: str) -> None:
    camera = dataclasses.replace(GRANT, permission=Permission.LIVE_VIEW, protocol="rtsp")
    assert isinstance(decide(camera), Allowed)
    assert isinstance(decide(dataclasses.replace(camera, lacking=frozenset({"ptz"}))), Allowed)
    withheld = dataclasses.replace(camera, lacking=frozenset({lacking}))
    assert decide(withheld) == Refused(Refusal.ACCESS_DENIED)
    assert isinstance(
        decide(dataclasses.replace(withheld, permission=Permission.CONNECT, protocol="ssh")), Allowed
    )


@pytest.mark.parametrize("age", [None, 15.001, -0.001, float("inf"), float("nan")])
def test_4_access_that_cannot_be_proved_now_is_stale(age: float | None) -> None:
    assert decide(GRANT, age=age) == Refused(Refusal.STALE)


@pytest.mark.parametrize("age", [0.0, 15.0])
def test_4_fresh_enough_is_fresh(age: float) -> None:
    assert isinstance(decide(GRANT, age=age), Allowed)


def test_4_staleness_refuses_the_owner_too() -> None:
    owner = dataclasses.replace(GRANT, reason="owner", share_id=None)
    assert decide(owner, age=None) == Refused(Refusal.STALE)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("tcp", Permission.CONNECT),
        ("ssh", Permission.CONNECT),
        ("http", Permission.CONNECT),
        ("rtsp", Permission.LIVE_VIEW),
        ("rtsps", Permission.LIVE_VIEW),
        ("never heard of", Permission.CONNECT),
    ],
)
def test_what_a_plain_port_needs(protocol: str, expected: Permission) -> None:
    assert permission_for(protocol) is expected


def test_the_applicable_grant_is_the_one_that_the_protocol_needs() -> None:
    live_view = dataclasses.replace(GRANT, permission=Permission.LIVE_VIEW)
    camera = [dataclasses.replace(each, protocol="rtsp") for each in (GRANT, live_view)]
    assert applicable([GRANT, live_view]) == GRANT
    assert applicable(camera) == camera[1]
    assert granted(applicable(camera[:1])) is None
    assert granted(applicable([])) is None


GRANTS = st.builds(
    Grant,
    permission=st.sampled_from(list(Permission)),
    allowed=st.booleans(),
    reason=st.sampled_from(["owner", "granted", "no_grant", "quarantined"]),
    device_id=st.none() | st.sampled_from(["cam-1", "cam-2"]),
    device_version=st.none() | st.integers(0, 5),
    share_id=st.none() | st.just(SHARE),
    partition=st.none() | st.integers(0, 23),
    target_host=st.none() | st.just("10.0.0.5"),
    target_port=st.none() | st.just(22),
    protocol=st.none() | st.sampled_from(["tcp", "rtsp", "x"]),
    lacking=st.none() | st.frozensets(st.sampled_from(["playback", "ptz"])),
)
POSITIONS = st.lists(st.builds(Position, st.sampled_from(["cam-1", "cam-2"]), st.integers(0, 5))).map(tuple)


@given(
    grant=st.none() | GRANTS,
    positions=POSITIONS,
    age=st.none() | st.floats(),
    applied=st.booleans(),
)
def test_nothing_is_allowed_unless_everything_speaks_for_it(
    grant: Grant | None, positions: tuple[Position, ...], age: float | None, applied: bool
) -> None:
    request = AccessRequest("ann", "svc-1", positions)
    answer = verdict(request, grant, freshness_age=age, max_staleness=MAX, positions_applied=applied)
    if isinstance(answer, Allowed):
        assert grant is not None
        assert grant.allowed
        assert grant.permission is permission_for(answer.protocol)
        assert age is not None
        assert 0 <= age <= MAX
        assert all(
            each.version <= answer.device_version for each in positions if each.device_id == answer.device_id
        )


@given(st.lists(GRANTS), POSITIONS, st.none() | st.floats(), st.booleans())
def test_denials_do_not_tell_what_exists(
    grants: list[Grant], positions: tuple[Position, ...], age: float | None, applied: bool
) -> None:
    """Whatever the store says of a service that is not granted, the answer is that of an unknown one."""
    refused = [dataclasses.replace(each, allowed=False) for each in grants]
    request = AccessRequest("ann", "svc-1", positions)
    answers = [
        verdict(request, applicable(each), freshness_age=age, max_staleness=MAX, positions_applied=applied)
        for each in (refused, [])
    ]
    assert answers[0] == answers[1]


def test_age_grows_by_our_own_clock_from_the_moment_the_poll_began() -> None:
    freshness = Freshness(began=100.0, ages={0: 2.0, 1: None, 2: 0.0})
    assert freshness.age(0, 103.0) == 5.0
    assert freshness.age(1, 103.0) is None
    assert freshness.age(7, 103.0) is None
    assert freshness.age(None, 103.0) is None
    assert freshness.newest(103.0) == 3.0
    assert freshness.oldest(103.0) is None
    assert Freshness(began=100.0, ages={0: 2.0, 2: 0.0}).oldest(103.0) == 5.0


def test_nothing_is_fresh_before_the_first_poll() -> None:
    assert Freshness().age(0, 1.0) is None
    assert Freshness().oldest(1.0) is None
    assert Freshness().newest(1.0) is None
