"""Nothing that takes away ever gives: for any share, any device and any way to take from it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import (
    AnyCommand,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    RevokeShare,
    ServiceChange,
)
from contracts.permissions import (
    AllServices,
    Permission,
    PermissionSet,
    Scope,
    SomeServices,
    Terms,
    granted,
)
from share_command.domain import (
    Device,
    Rules,
    Share,
    State,
    Subject,
    decide,
    evolve,
    follow_account_deletion,
    follow_device,
    overdue,
)
from share_command.errors import ShareCommandError

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NAMES = ("s1", "s2", "s3", "s4")
FUNCTIONS = [permission for permission in Permission if permission is not Permission.SCRIPTING]

ALL: PermissionSet = "all"
permission_sets = st.just(ALL) | st.frozensets(st.sampled_from(FUNCTIONS), min_size=1)
scopes: st.SearchStrategy[Scope] = st.builds(AllServices, permissions=permission_sets) | st.builds(
    SomeServices, services=st.dictionaries(st.sampled_from(NAMES), permission_sets, min_size=1)
)
moments = st.sampled_from([None, NOW - timedelta(hours=1), NOW, NOW + timedelta(hours=1)])
states: st.SearchStrategy[State] = st.sampled_from(
    ["requested", "active", "rejected", "revoked", "left", "expired"]
)
devices = st.builds(
    Device,
    device_id=st.just("cam"),
    owner_account_id=st.sampled_from(["owner", "owner", "owner", "new"]),
    services=st.dictionaries(
        st.sampled_from(NAMES), st.none() | st.frozensets(st.sampled_from(list(Permission)))
    ),
)


@st.composite
def shares(draw: st.DrawFn) -> Share:
    state = draw(states)
    terms = Terms(
        scope=draw(scopes), scripting=draw(st.booleans()), starts_at=draw(moments), ends_at=draw(moments)
    )
    return Share(
        uuid4(), "cam", uuid4(), "owner", state, terms, version=3, invitation_version=2,
        told_at=NOW - timedelta(days=1), expires_at=draw(moments),
        account_id="ann" if state in ("active", "left") else None,
    )  # fmt: skip


removals = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(
    lambda names: tuple(ServiceChange(service_id=name, action="REMOVE") for name in names)
)


@st.composite
def takings(draw: st.DrawFn) -> AnyCommand:
    """A command that takes away."""
    who = draw(st.sampled_from(["owner", "ann", "new", "eve"]))
    kind = draw(st.sampled_from([RequestShare, RevokeShare, LeaveShare, RejectShare, RemoveRecipient]))
    if kind is RequestShare:
        return RequestShare(
            command_id="c",
            actor=who,
            device_ids=("cam",),
            recipients=("ann@x.test",),
            services=draw(removals),
        )
    if kind is RevokeShare:
        return RevokeShare(command_id="c", actor=who, device_ids=("cam",), recipients=("ann@x.test",))
    if kind is LeaveShare:
        return LeaveShare(command_id="c", actor=who, device_ids=("cam",))
    if kind is RejectShare:
        return RejectShare(command_id="c", actor=who, device_id="cam", share_id=uuid4())
    return RemoveRecipient(command_id="c", actor=who, recipient="ann@x.test")


def gives(share: Share | None, service: str, *, once_accepted: bool) -> frozenset[Permission]:
    """What a share gives on a service that can do everything; an invitation nothing, until it is accepted."""
    held = {"active", "requested"} if once_accepted else {"active"}
    if share is None or share.state not in held:
        return frozenset()
    return granted(share.terms, service, frozenset(Permission))


def assert_no_wider(before: Share | None, after: Share | None) -> None:
    for service in NAMES:
        for once_accepted in (False, True):
            was, now = (gives(item, service, once_accepted=once_accepted) for item in (before, after))
            assert now <= was
    if after is not None and after.live:
        assert before is not None
        assert (after.terms.starts_at, after.terms.ends_at) == (before.terms.starts_at, before.terms.ends_at)


@given(st.none() | shares(), takings(), devices | st.none(), st.lists(st.sampled_from(NAMES), max_size=2))
def test_a_command_that_takes_away_gives_nothing(
    before: Share | None, command: AnyCommand, device: Device | None, named: list[str]
) -> None:
    on = Subject(
        "cam", uuid4(), uuid4(), device, verified=command.actor == "ann", named_services=tuple(named)
    )
    try:
        events = decide(before, command, on, now=NOW, rules=Rules())
    except ShareCommandError:
        return
    after = before
    for version, event in enumerate(events, 4):
        after = evolve(after, event, version, NOW)
    if isinstance(command, RequestShare) and named:
        return  # a service named in place of its device is added
    assert_no_wider(before, after)


@given(shares(), devices | st.none())
def test_whatever_becomes_of_the_device_gives_nothing(before: Share, device: Device | None) -> None:
    event = follow_device(before, device, NOW)
    after = before if event is None else evolve(before, event, 4, NOW)
    assert_no_wider(before, after)
    if device is None or device.owner_account_id != before.owner_account_id:
        assert not after.live
    assert follow_device(after, device, NOW) is None, "once"


@given(shares())
def test_the_end_of_time_and_of_an_account_give_nothing(before: Share) -> None:
    for event in (overdue(before, NOW), follow_account_deletion(before, NOW)):
        after = before if event is None else evolve(before, event, 4, NOW)
        assert_no_wider(before, after)
    assert follow_account_deletion(replace(before, state="revoked"), NOW) is None


@given(states, scopes)
def test_what_is_not_active_gives_nothing(state: State, scope: Scope) -> None:
    share = Share(
        uuid4(), "cam", uuid4(), "owner", state, Terms(scope=scope, scripting=True), version=1,
        invitation_version=1, told_at=NOW,
    )  # fmt: skip
    given_now = {service for service in NAMES if gives(share, service, once_accepted=False)}
    assert not given_now or state == "active"
    assert share.live == (state in ("requested", "active"))
