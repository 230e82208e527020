"""Every cell of the table in `share_command.domain`, how requests change terms, and random histories."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    LeaveShare,
    RejectShare,
    RequestShare,
    RevokeShare,
    ServiceChange,
)
from contracts.events import (
    AnyShareEvent,
    RevokeReason,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, Permission, PermissionSet, Scope, SomeServices, Terms
from share_command.domain import (
    Device,
    Share,
    State,
    Subject,
    decide,
    evolve,
    is_recipient,
    require_services,
)
from share_command.errors import Conflict, DeviceNotFound, Refused, SelfShare, ServiceNotOnDevice

SHARE_ID, CONTACT = uuid4(), uuid4()
DEVICE = Device("cam", "owner", frozenset({"s1", "s2", "s3"}))
LIVE = frozenset({Permission.LIVE_VIEW})
PLAY = frozenset({Permission.PLAYBACK})


def subject(
    *, verified: bool = False, device: Device | None = DEVICE, named: tuple[str, ...] = ()
) -> Subject:
    return Subject("cam", CONTACT, uuid4(), device, verified, named)


def some(**services: PermissionSet) -> SomeServices:
    return SomeServices(services=services)


def share(state: State | None, scope: Scope | None = None, *, scripting: bool = False) -> Share | None:
    if state is None:
        return None
    terms = Terms(scope=scope or AllServices(), scripting=scripting)
    account = "ann" if state in ("active", "left") else None
    return Share(SHARE_ID, "cam", CONTACT, "owner", state, terms, 1, account)


def request(*changes: ServiceChange, actor: str = "owner", **fields: Any) -> RequestShare:
    return RequestShare(
        command_id="c",
        actor=actor,
        device_ids=("cam",),
        recipients=("ann@x.test",),
        services=changes,
        **fields,
    )


def add(service: str, permissions: PermissionSet = "all") -> ServiceChange:
    return ServiceChange(service_id=service, permissions=permissions)


def remove(service: str) -> ServiceChange:
    return ServiceChange(service_id=service, action="REMOVE")


def accept(actor: str = "ann", version: int = 1) -> AcceptShare:
    return AcceptShare(
        command_id="c", actor=actor, device_id="cam", share_id=SHARE_ID, invitation_version=version
    )


def reject(actor: str = "ann") -> RejectShare:
    return RejectShare(command_id="c", actor=actor, device_id="cam", share_id=SHARE_ID)


def revoke(actor: str = "owner") -> RevokeShare:
    return RevokeShare(command_id="c", actor=actor, device_ids=("cam",), recipients=("ann@x.test",))


def leave(actor: str = "ann") -> LeaveShare:
    return LeaveShare(command_id="c", actor=actor, device_ids=("cam",))


def one(events: tuple[AnyShareEvent, ...]) -> AnyShareEvent | None:
    assert len(events) <= 1
    return events[0] if events else None


ENDED: tuple[State, ...] = ("rejected", "revoked", "left")
Row = tuple[State | None, AnyCommand, str | type[Refused] | None]


def ended_rows(state: State) -> list[Row]:
    return [
        (state, request(), "ShareRequested"),
        (state, EMPTYING, None),
        (state, accept(), Conflict),
        (state, reject(), Conflict),
        (state, revoke(), None),
        (state, leave(), None),
    ]


EMPTYING = request(remove("s1"), remove("s2"), remove("s3"))
TABLE: list[Row] = [
    (None, request(), "ShareRequested"),
    (None, EMPTYING, None),
    (None, accept(), DeviceNotFound),
    (None, reject(), DeviceNotFound),
    (None, revoke(), None),
    (None, leave(), DeviceNotFound),
    *(row for state in ENDED for row in ended_rows(state)),
    ("requested", request(scripting=True), "ShareChanged"),
    ("requested", request(), None),
    ("requested", EMPTYING, "ShareRevoked"),
    ("requested", accept(), "ShareAccepted"),
    ("requested", accept(version=2), Conflict),
    ("requested", reject(), "ShareRejected"),
    ("requested", revoke(), "ShareRevoked"),
    ("requested", leave(), "ShareRejected"),
    ("active", request(scripting=True), "ShareChanged"),
    ("active", request(), None),
    ("active", EMPTYING, "ShareRevoked"),
    ("active", accept(), None),
    ("active", accept(version=2), None),
    ("active", reject(), Conflict),
    ("active", revoke(), "ShareRevoked"),
    ("active", leave(), "ShareLeft"),
]


@pytest.mark.parametrize(("state", "command", "expected"), TABLE)
def test_table(state: State | None, command: AnyCommand, expected: str | type[Refused] | None) -> None:
    on = subject(verified=command.actor == "ann")
    if isinstance(expected, type):
        with pytest.raises(expected):
            decide(share(state), command, on)
    else:
        events = [type(event).__name__ for event in decide(share(state), command, on)]
        assert events == ([] if expected is None else [expected])


ENDS: list[tuple[State | None, AnyCommand, State]] = [
    (None, request(), "requested"),
    ("left", request(), "requested"),
    ("requested", accept(), "active"),
    ("requested", reject(), "rejected"),
    ("requested", request(scripting=True), "requested"),
    ("requested", revoke(), "revoked"),
    ("active", request(scripting=True), "active"),
    ("active", revoke(), "revoked"),
    ("active", leave(), "left"),
]


@pytest.mark.parametrize(("state", "command", "after"), ENDS)
def test_state_after(state: State | None, command: AnyCommand, after: State) -> None:
    before = share(state)
    (event,) = decide(before, command, subject(verified=command.actor == "ann"))
    now = evolve(before, event, 9)
    assert now.state == after
    assert before is None or now.share_id == before.share_id, "one share per device and contact"
    new_terms = after == "requested"
    assert now.invitation_version == (9 if new_terms else 1), "the version that a recipient accepts"
    assert (now.account_id is not None) == (state == "active" or after == "active")


@pytest.mark.parametrize("state", [None, "requested", "active", "revoked"])
@pytest.mark.parametrize(
    "command", [request(actor="eve"), revoke("eve"), leave("eve"), accept("eve"), reject("eve")]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_stranger_gets_the_answer_for_what_does_not_exist(
    state: State | None, command: AnyCommand, there: bool
) -> None:
    with pytest.raises(DeviceNotFound) as refused:
        decide(share(state), command, subject(device=DEVICE if there else None))
    assert refused.value.message == DeviceNotFound().message
    assert refused.value.details == {}


def test_an_accepted_share_stays_with_its_account_when_another_verifies_the_address() -> None:
    for command in (leave("bob"), accept("bob"), reject("bob"), revoke("bob")):
        with pytest.raises(DeviceNotFound):
            decide(share("active"), command, subject(verified=True))
    events = decide(share("active"), leave("ann"), subject(verified=False))
    assert events, "and with the account even when the address is no longer his"


def test_revocation_by_the_recipient_is_a_leave() -> None:
    on = subject(verified=True)
    assert isinstance(one(decide(share("active"), revoke("ann"), on)), ShareLeft)
    assert isinstance(one(decide(share("requested"), revoke("ann"), on)), ShareRejected)


def test_nobody_shares_with_himself() -> None:
    with pytest.raises(SelfShare):
        decide(None, request(), subject(verified=True))
    with pytest.raises(SelfShare):  # verified the address after he had invited it
        decide(share("requested"), accept("owner"), subject(verified=True))


def test_an_invitation_ends_with_the_inviters_ownership() -> None:
    sold = subject(verified=True, device=replace(DEVICE, owner_account_id="new"))
    for on in (sold, subject(verified=True, device=None)):
        with pytest.raises(DeviceNotFound):
            decide(share("requested"), accept(), on)
    assert decide(share("requested"), reject(), sold)


SOLD = replace(DEVICE, owner_account_id="new")


@pytest.mark.parametrize("state", ["requested", "active"])
@pytest.mark.parametrize(
    ("command", "scope"),
    [
        (request(actor="new"), AllServices()),
        (request(actor="new", permissions=LIVE), AllServices(permissions=LIVE)),
        (request(add("s2", LIVE), actor="new"), some(s2=LIVE)),
        (request(remove("s1"), actor="new"), None),
    ],
)
def test_a_new_owner_ends_the_former_owners_share_and_invites_anew(
    state: State, command: RequestShare, scope: Scope | None
) -> None:
    before = share(state, some(s1="all"), scripting=True)
    events = decide(before, command, subject(device=SOLD))
    ended = events[0]
    assert isinstance(ended, ShareRevoked)
    assert (ended.reason, ended.owner_account_id) == (RevokeReason.OWNERSHIP_TRANSFERRED, "owner")
    now = evolve(before, ended, 8)
    assert (now.state, now.owner_account_id) == ("revoked", "owner")
    if scope is None:
        assert len(events) == 1
        return
    _, invited = events
    assert isinstance(invited, ShareRequested)
    assert invited.terms == Terms(scope=scope), "nothing of the former owner's terms is left"
    now = evolve(now, invited, 9)
    assert (now.state, now.owner_account_id, now.share_id) == ("requested", "new", SHARE_ID)
    assert (now.invitation_version, now.account_id) == (9, None)
    (accepted,) = decide(now, accept(version=9), subject(verified=True, device=SOLD))
    assert evolve(now, accepted, 10).state == "active"


@pytest.mark.parametrize("state", ["requested", "active"])
@pytest.mark.parametrize("named", [(), ("s2",)])
def test_a_new_owner_revokes_the_former_owners_share_as_a_whole(state: State, named: tuple[str, ...]) -> None:
    (ended,) = decide(share(state), revoke("new"), subject(device=SOLD, named=named))
    assert isinstance(ended, ShareRevoked)
    assert (ended.reason, ended.owner_account_id) == (RevokeReason.OWNERSHIP_TRANSFERRED, "owner")


def test_a_thousand_entries() -> None:
    names = [f"s{number}" for number in range(1000)]
    device = replace(DEVICE, services=frozenset(names))
    event = one(decide(None, request(*(add(name, LIVE) for name in names)), subject(device=device)))
    assert isinstance(event, ShareRequested)
    assert event.terms.scope == some(**dict.fromkeys(names, LIVE))


def test_a_stale_acceptance_is_told_the_new_terms() -> None:
    before = share("requested")
    (event,) = decide(before, request(add("s1"), scripting=True), subject())
    assert isinstance(event, ShareChanged)
    changed = evolve(before, event, 4)
    with pytest.raises(Conflict) as refused:
        decide(changed, accept(version=1), subject(verified=True))
    assert refused.value.details["invitation_version"] == 4
    assert refused.value.details["terms"] == event.terms.model_dump(mode="json")
    assert decide(changed, accept(version=4), subject(verified=True))


SCOPES: list[tuple[Scope | None, tuple[ServiceChange, ...], Scope | None]] = [
    (None, (), AllServices()),
    (None, (add("s1"), add("s2", LIVE)), some(s1="all", s2=LIVE)),
    (None, (add("s1"), remove("s1")), None),
    (some(s1="all"), (), AllServices()),
    (some(s1="all"), (add("s2"), remove("s1")), some(s2="all")),
    (some(s1="all"), (remove("s1"), add("s1", LIVE)), some(s1=LIVE)),
    (some(s1=LIVE), (add("s1", PLAY),), some(s1=PLAY)),
    (some(s1="all"), (remove("s2"),), some(s1="all")),
    (some(s1="all"), (remove("s1"),), None),
    (AllServices(), (add("s1"),), AllServices()),
    (AllServices(permissions=LIVE), (add("s1", LIVE),), AllServices(permissions=LIVE)),
    (AllServices(), (remove("s1"),), some(s2="all", s3="all")),
    (AllServices(permissions=LIVE), (remove("s1"),), some(s2=LIVE, s3=LIVE)),
    (AllServices(), (remove("s1"), add("s1", LIVE)), some(s1=LIVE, s2="all", s3="all")),
    (AllServices(), (remove("s1"), remove("s2"), remove("s3")), None),
]


@pytest.mark.parametrize("state", ["requested", "active"])
@pytest.mark.parametrize(("before", "changes", "after"), SCOPES)
def test_scope_after_a_request(
    state: State, before: Scope | None, changes: tuple[ServiceChange, ...], after: Scope | None
) -> None:
    old = None if before is None else share(state, before, scripting=True)
    event = one(decide(old, request(*changes), subject()))
    if after is None:
        assert isinstance(event, ShareRevoked) if old else event is None
    elif after == before:
        assert event is None
    else:
        assert isinstance(event, ShareRequested | ShareChanged)
        assert event.terms == Terms(scope=after, scripting=old is not None), "scripting stays as it was"


@pytest.mark.parametrize(("common", "asked"), [("all", LIVE), (LIVE, "all"), (LIVE, PLAY)])
def test_one_service_of_a_share_of_all_cannot_differ(common: PermissionSet, asked: PermissionSet) -> None:
    with pytest.raises(Conflict) as refused:
        decide(share("active", AllServices(permissions=common)), request(add("s1", asked)), subject())
    assert refused.value.details == {"service_id": "s1"}


def test_a_service_named_in_place_of_its_device() -> None:
    (event,) = decide(None, request(permissions=LIVE), subject(named=("s2",)))
    assert isinstance(event, ShareRequested)
    assert event.terms.scope == some(s2=LIVE)
    (event,) = decide(share("active"), revoke(), subject(named=("s2",)))
    assert isinstance(event, ShareChanged)
    assert event.terms.scope == some(s1="all", s3="all")
    last = share("active", some(s2="all"))
    assert isinstance(one(decide(last, revoke(), subject(named=("s2",)))), ShareRevoked)
    assert not decide(share("active", some(s1="all")), revoke(), subject(named=("s2",)))
    assert decide(last, leave(), subject(named=("s2",)))
    for scope in (AllServices(), some(s1="all", s2="all")):
        with pytest.raises(Conflict):
            decide(share("active", scope), leave(), subject(named=("s2",)))


def test_services_must_be_on_the_device() -> None:
    with pytest.raises(ServiceNotOnDevice) as refused:
        require_services(request(add("s1"), remove("s9")), [DEVICE])
    assert refused.value.details == {"service_id": "s9"}
    other = Device("rec", "owner", frozenset({"s9"}))
    require_services(request(add("s1"), remove("s9")), [DEVICE, other])
    with pytest.raises(ServiceNotOnDevice):  # a list with nothing for this device never means all of it
        decide(None, request(add("s9")), subject())


def test_a_history_cannot_begin_in_the_middle() -> None:
    (event,) = decide(share("active"), leave(), subject(verified=True))
    with pytest.raises(ValueError, match="version 3"):
        evolve(None, event, 3)


_permissions = st.sampled_from(["all", LIVE, PLAY])
_changes = st.builds(
    ServiceChange,
    service_id=st.sampled_from(["s1", "s2", "s3"]),
    action=st.sampled_from(["ADD", "REMOVE"]),
    permissions=_permissions,
)
_actors = st.sampled_from(["owner", "new", "ann", "bob", "eve"])


@st.composite
def _requests(draw: st.DrawFn) -> RequestShare:
    return request(
        *draw(st.lists(_changes, max_size=3)),
        actor=draw(st.sampled_from(["owner", "owner", "owner", "new", "ann"])),
        permissions=draw(_permissions),
        scripting=draw(st.sampled_from([None, True, False])),
    )


_commands = st.one_of(
    _requests(),
    st.builds(accept, _actors, st.integers(1, 8)),
    st.just(accept("ann")),
    st.builds(reject, _actors),
    st.builds(revoke, _actors),
    st.builds(leave, _actors),
)


_owners = st.sampled_from(["owner", "owner", "owner", "new"])
_verifiers = st.sampled_from([{"ann"}, {"ann", "bob"}, {"bob"}])


@given(st.lists(st.tuples(_commands, _verifiers, _owners), max_size=25))
def test_any_history(steps: list[tuple[AnyCommand, set[str], str]]) -> None:
    """Only owner and recipient act; a grant needs an acceptance of its very terms; replay gives the state."""
    now: Share | None = None
    events: list[AnyShareEvent] = []
    for given_command, verifiers, owner in steps:
        before, command = now, given_command
        if isinstance(command, AcceptShare) and command.actor == "ann" and now is not None:
            command = command.model_copy(update={"invitation_version": now.invitation_version})
        verified = command.actor in verifiers
        on = subject(verified=verified, device=replace(DEVICE, owner_account_id=owner))
        try:
            decided = decide(before, command, on)
        except Refused:
            continue
        for event in decided:
            seen = now
            assert command.actor == owner or (
                seen is not None and is_recipient(seen, command.actor, verified=verified)
            )
            assert seen is None or event.owner_account_id == seen.owner_account_id or not seen.live
            events.append(event)
            now = evolve(seen, event, len(events))
            if now.state == "active" and (seen is None or seen.state != "active"):
                assert isinstance(command, AcceptShare)
                assert seen is not None
                assert (seen.state, seen.terms) == ("requested", now.terms)
                assert command.invitation_version == now.invitation_version
                assert now.account_id == command.actor != owner == now.owner_account_id
            if isinstance(event, ShareRevoked):
                by_owner = event.reason is RevokeReason.BY_OWNER
                assert by_owner == (seen is not None and seen.owner_account_id == owner)
        repeated = decide(now, command, on) if command.actor == owner else ()
        if not (isinstance(command, RequestShare) and command.services):
            assert repeated == (), "doing again what is done"
    replayed: Share | None = None
    for version, event in enumerate(events, 1):
        replayed = evolve(replayed, event, version)
    assert replayed == now
