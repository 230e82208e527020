"""The decision: a test for each line of its list, and properties that hold for any input."""

import dataclasses
from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.policy import (
    CAMERA_FUNCTIONS,
    NOTHING,
    AccessRequest,
    Allowed,
    DeviceGrants,
    Found,
    Freshness,
    Reason,
    Refusal,
    Refused,
    Service,
    ServiceAccess,
    Share,
    Verdict,
    carried_by,
    find,
    verdict,
)
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from contracts.positions import Position

SHARES = [UUID(int=number) for number in range(1, 5)]
NOW, MAX = 1000.0, 15.0
CONNECT, LIVE, PLAYBACK, TALK = (
    Permission.CONNECT,
    Permission.LIVE_VIEW,
    Permission.PLAYBACK,
    Permission.TWO_WAY_AUDIO,
)
SSH = ServiceAccess(
    "svc-1", "cam-1", 7, 3, "ssh", None, "10.0.0.5", 22, {CONNECT: SHARES[0]}, frozenset(), owned=False
)


def fresh(age: float | None = 1.0) -> Freshness:
    return Freshness(NOW, {3: age})


def decide(
    found: Found | None,
    *positions: str,
    age: float | None = 1.0,
    applied: bool = False,
    permission: Permission | frozenset[Permission] | None = None,
) -> Verdict:
    request = AccessRequest("ann", "svc-1", permission, tuple(Position.parse(each) for each in positions))
    return verdict(
        request, found, freshness=fresh(age), now=NOW, max_staleness=MAX, positions_applied=applied
    )


def one(access: ServiceAccess = SSH) -> Found:
    return Found((access,), Reason.NO_GRANT)


def test_a_granted_request_is_allowed_and_told_why_and_from_when() -> None:
    assert decide(one()) == Allowed(SSH, CONNECT, SHARES[0], Reason.GRANTED, 7, 1.0)
    owner = dataclasses.replace(SSH, functions={CONNECT: None}, owned=True)
    assert decide(one(owner)) == Allowed(owner, CONNECT, None, Reason.OWNER, 7, 1.0)


def test_1_what_is_not_known_is_unavailable() -> None:
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
    answer = decide(one(), position)
    assert (answer.code if isinstance(answer, Refused) else None) is expected


def test_2_a_denial_counts_only_when_the_positions_are_proved_to_be_applied() -> None:
    assert decide(NOTHING, "cam-1@1") == Refused(Refusal.NOT_YET_VISIBLE, Reason.NO_GRANT)
    assert decide(NOTHING, "cam-1@1", applied=True) == Refused(Refusal.ACCESS_DENIED, Reason.NO_GRANT)


@pytest.mark.parametrize("reason", list(Reason))
def test_3_whatever_is_not_granted_is_denied_alike(reason: Reason) -> None:
    answer = decide(Found((), reason))
    assert isinstance(answer, Refused)
    assert (answer.code, answer.version, answer.age) == (Refusal.ACCESS_DENIED, None, None)


@pytest.mark.parametrize("age", [None, 15.001, -0.001, float("inf"), float("nan")])
def test_4_access_that_cannot_be_proved_now_is_stale(age: float | None) -> None:
    answer = decide(one(), age=age)
    assert isinstance(answer, Refused)
    assert answer.code is Refusal.STALE


@pytest.mark.parametrize("age", [0.0, 15.0])
def test_4_fresh_enough_is_fresh(age: float) -> None:
    assert isinstance(decide(one(), age=age), Allowed)


def test_4_staleness_refuses_the_owner_too() -> None:
    answer = decide(one(dataclasses.replace(SSH, owned=True)), age=None)
    assert isinstance(answer, Refused)
    assert answer.code is Refusal.STALE


def test_a_service_on_two_devices_is_answered_by_the_one_that_carries_the_request() -> None:
    other = dataclasses.replace(SSH, device_id="cam-2", functions={PLAYBACK: SHARES[1]})
    answer = decide(Found((SSH, other), Reason.NO_GRANT), permission=PLAYBACK)
    assert isinstance(answer, Allowed)
    assert answer.access is other


CARRIED = [
    # protocol, granted, withheld, asked for, carried by
    ("ssh", {CONNECT}, set[Permission](), None, CONNECT),
    ("never heard of", {CONNECT}, set[Permission](), None, CONNECT),
    ("ssh", {LIVE}, set[Permission](), None, None),
    ("ssh", {CONNECT}, {PLAYBACK}, None, CONNECT),
    ("rtsp", {CONNECT}, set[Permission](), None, None),
    ("rtsp", {LIVE}, set[Permission](), None, LIVE),
    ("rtsps", {LIVE}, set[Permission](), None, LIVE),
    ("rtsp", {LIVE}, {Permission.PTZ}, None, LIVE),
    ("rtsp", {LIVE, PLAYBACK}, {TALK}, None, None),
    ("rtsp", {LIVE, TALK}, {PLAYBACK}, None, None),
    ("rtsp", {PLAYBACK, TALK}, {LIVE}, None, None),
    ("rtsp", {LIVE}, {PLAYBACK, TALK}, LIVE, LIVE),
    ("rtsp", {LIVE}, {PLAYBACK, TALK}, PLAYBACK, None),
    ("rtsp", {TALK}, {LIVE}, CAMERA_FUNCTIONS, TALK),
    ("rtsp", {CONNECT}, {LIVE}, CAMERA_FUNCTIONS, None),
    ("rtsp", {LIVE}, set[Permission](), frozenset[Permission](), None),
    ("onvif", {Permission.PTZ}, set[Permission](), Permission.PTZ, Permission.PTZ),
    ("ssh", {Permission.SCRIPTING, CONNECT}, set[Permission](), Permission.SCRIPTING, Permission.SCRIPTING),
]


@pytest.mark.parametrize(("protocol", "functions", "withheld", "asked", "expected"), CARRIED)
def test_3_what_carries_a_request(
    protocol: str,
    functions: set[Permission],
    withheld: set[Permission],
    asked: Permission | frozenset[Permission] | None,
    expected: Permission | None,
) -> None:
    access = dataclasses.replace(
        SSH,
        protocol=protocol,
        functions=dict.fromkeys(functions, SHARES[0]),
        withheld=frozenset(withheld),
    )
    assert carried_by(AccessRequest("ann", "svc-1", asked), access) is expected
    answer = decide(one(access), permission=asked)
    assert (answer.permission if isinstance(answer, Allowed) else None) is expected


ALL = Terms(scope=AllServices())
DEVICE = DeviceGrants(
    device_id="cam-1",
    owner_account_id="owner",
    version=7,
    partition=3,
    quarantined=False,
    services={"svc-1": Service("svc-1", "rtsp", 2, "10.0.0.5", 554, CAMERA_FUNCTIONS)},
    shares={},
)


def shared(*shares: Share) -> Mapping[Permission, UUID | None]:
    found = find([dataclasses.replace(DEVICE, shares={"ann": shares})], "ann", "svc-1", NOW)
    return found.accesses[0].functions if found.accesses else {}


def test_the_owner_may_do_everything_that_the_service_can() -> None:
    found = find([DEVICE], "owner", "svc-1", NOW)
    (access,) = found.accesses
    assert access.functions == dict.fromkeys(CAMERA_FUNCTIONS | {Permission.SCRIPTING})
    assert (access.withheld, access.owned, access.channel, access.until) == (frozenset(), True, 2, None)
    assert find([dataclasses.replace(DEVICE, quarantined=True)], "owner", "svc-1", NOW) == found


def test_nobody_else_may_do_anything_without_a_share() -> None:
    assert find([DEVICE], "ann", "svc-1", NOW) == NOTHING
    assert find([DEVICE], "owner", "svc-2", NOW) == NOTHING
    assert find([], "owner", "svc-1", NOW) == NOTHING


@pytest.mark.parametrize(
    ("begins", "ends", "holds"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + 0.001, None, False),
        (None, NOW + 0.001, True),
        (None, NOW, False),
        (NOW - 1, NOW + 1, True),
    ],
)
def test_a_share_holds_from_its_start_and_up_to_its_end(
    begins: float | None, ends: float | None, holds: bool
) -> None:
    assert bool(shared(Share(SHARES[0], ALL, begins, ends))) is holds


def test_shares_add_up_and_each_function_names_the_one_that_lasts_longest() -> None:
    live = Terms(scope=SomeServices(services={"svc-1": frozenset({LIVE})}), scripting=True)
    other = Terms(scope=SomeServices(services={"svc-2": "all"}), scripting=True)
    functions = shared(
        Share(SHARES[0], ALL, None, NOW + 5),
        Share(SHARES[1], live, None, NOW + 9),
        Share(SHARES[2], live, None, None),
        Share(SHARES[3], other, None, None),
    )
    assert functions == {
        LIVE: SHARES[2],
        PLAYBACK: SHARES[0],
        TALK: SHARES[0],
        Permission.SCRIPTING: SHARES[2],
    }


def test_access_is_judged_again_at_the_next_start_or_end() -> None:
    shares = (
        Share(SHARES[0], ALL, NOW - 9, NOW + 5),
        Share(SHARES[1], ALL, NOW + 3, None),
        Share(SHARES[2], ALL, NOW - 9, NOW - 2),
    )
    (access,) = find([dataclasses.replace(DEVICE, shares={"ann": shares})], "ann", "svc-1", NOW).accesses
    assert access.until == NOW + 3
    assert access.withheld == frozenset()


def test_a_device_in_quarantine_gives_nothing_by_share() -> None:
    device = dataclasses.replace(
        DEVICE, quarantined=True, shares={"ann": (Share(SHARES[0], ALL, None, None),)}
    )
    assert find([device], "ann", "svc-1", NOW) == Found((), Reason.QUARANTINED)


def test_of_several_devices_the_owned_one_counts_first() -> None:
    mine = dataclasses.replace(DEVICE, device_id="cam-2", owner_account_id="ann")
    theirs = dataclasses.replace(DEVICE, shares={"ann": (Share(SHARES[0], ALL, None, None),)})
    found = find([theirs, mine], "ann", "svc-1", NOW)
    assert [each.device_id for each in found.accesses] == ["cam-2", "cam-1"]


FUNCTIONS = st.frozensets(st.sampled_from(list(Permission)))
ACCESSES = st.builds(
    ServiceAccess,
    service_id=st.just("svc-1"),
    device_id=st.sampled_from(["cam-1", "cam-2"]),
    device_version=st.integers(0, 5),
    partition=st.integers(0, 4),
    protocol=st.sampled_from(["tcp", "rtsp", "x"]),
    channel=st.none(),
    target_host=st.just("10.0.0.5"),
    target_port=st.just(22),
    functions=FUNCTIONS.map(lambda each: dict.fromkeys(each, SHARES[0])),
    withheld=FUNCTIONS,
    owned=st.booleans(),
)
FOUND = st.builds(Found, st.lists(ACCESSES, max_size=2).map(tuple), st.sampled_from(list(Reason)))
POSITIONS = st.lists(st.builds(Position, st.sampled_from(["cam-1", "cam-2"]), st.integers(0, 5))).map(tuple)
ASKED = st.none() | st.sampled_from(list(Permission)) | FUNCTIONS


@given(
    found=st.none() | FOUND,
    asked=ASKED,
    positions=POSITIONS,
    age=st.none() | st.floats(),
    applied=st.booleans(),
)
def test_nothing_is_allowed_unless_everything_speaks_for_it(
    found: Found | None,
    asked: Permission | frozenset[Permission] | None,
    positions: tuple[Position, ...],
    age: float | None,
    applied: bool,
) -> None:
    request = AccessRequest("ann", "svc-1", asked, positions)
    answer = verdict(
        request, found, freshness=fresh(age), now=NOW, max_staleness=MAX, positions_applied=applied
    )
    if isinstance(answer, Allowed):
        assert found is not None
        assert answer.access in found.accesses
        assert answer.permission in answer.access.functions
        assert answer.permission == carried_by(request, answer.access)
        assert 0 <= answer.age <= MAX
        assert answer.access.partition == 3
        assert all(
            each.version <= answer.version for each in positions if each.device_id == answer.access.device_id
        )


@given(FOUND, ASKED, POSITIONS, st.none() | st.floats(), st.booleans())
def test_denials_do_not_tell_what_exists(
    found: Found,
    asked: Permission | frozenset[Permission] | None,
    positions: tuple[Position, ...],
    age: float | None,
    applied: bool,
) -> None:
    """Whatever is known of a service that is not granted, the answer is that of an unknown one."""
    request = AccessRequest("ann", "svc-1", asked, positions)
    refused = Found(tuple(each for each in found.accesses if carried_by(request, each) is None), found.reason)
    codes: list[Refusal] = []
    for each in (refused, NOTHING):
        answer = verdict(
            request, each, freshness=fresh(age), now=NOW, max_staleness=MAX, positions_applied=applied
        )
        assert isinstance(answer, Refused)
        assert (answer.version, answer.age) == (None, None)
        codes.append(answer.code)
    assert codes[0] is codes[1]


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
