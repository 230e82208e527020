"""How requests change terms, and what terms give."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts.commands import (
    AnyCommand,
    LeaveShare,
    RequestShare,
    RevokeShare,
    ServiceChange,
)
from contracts.events import (
    AnyShareEvent,
    ShareChanged,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import (
    AllServices,
    Permission,
    PermissionSet,
    Scope,
    SomeServices,
    Terms,
)
from share_command import domain
from share_command.domain import Device, Rules, Share, State, Subject, require_services
from share_command.errors import (
    Conflict,
    ServiceNotOnDevice,
)

SHARE_ID, CONTACT = uuid4(), uuid4()


DEVICE = Device("cam", "owner", dict.fromkeys(("s1", "s2", "s3")))


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


LIVE = frozenset({Permission.LIVE_VIEW})


PLAY = frozenset({Permission.PLAYBACK})


def decide(share: Share | None, command: AnyCommand, on: Subject) -> tuple[AnyShareEvent, ...]:
    return domain.decide(share, command, on, now=NOW, rules=Rules())


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
    return Share(
        SHARE_ID, "cam", CONTACT, "owner", state, terms, version=1, invitation_version=1,
        told_at=NOW - timedelta(hours=1), account_id=account,
    )  # fmt: skip


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


def revoke(actor: str = "owner") -> RevokeShare:
    return RevokeShare(command_id="c", actor=actor, device_ids=("cam",), recipients=("ann@x.test",))


def leave(actor: str = "ann") -> LeaveShare:
    return LeaveShare(command_id="c", actor=actor, device_ids=("cam",))


def one(events: tuple[AnyShareEvent, ...]) -> AnyShareEvent | None:
    assert len(events) <= 1
    return events[0] if events else None


def test_a_thousand_entries() -> None:
    names = [f"s{number}" for number in range(1000)]
    device = replace(DEVICE, services=dict.fromkeys(names))
    event = one(decide(None, request(*(add(name, LIVE) for name in names)), subject(device=device)))
    assert isinstance(event, ShareRequested)
    assert event.terms.scope == some(**dict.fromkeys(names, LIVE))


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
        require_services((add("s1"), remove("s9")), [DEVICE])
    assert refused.value.details == {"service_id": "s9"}
    other = Device("rec", "owner", {"s9": None})
    require_services((add("s1"), remove("s9")), [DEVICE, other])
    with pytest.raises(ServiceNotOnDevice):  # a list with nothing for this device never means all of it
        decide(None, request(add("s9")), subject())


def test_taking_out_adds_nothing_even_where_a_service_is_named_in_place_of_its_device() -> None:
    before = share("active", some(s1=LIVE, s2="all"))
    (event,) = decide(before, request(remove("s2")), subject(named=("s1",)))
    assert isinstance(event, ShareChanged)
    assert event.terms.scope == some(s1=LIVE)
    assert decide(None, request(remove("s2")), subject(named=("s1",))) == ()
    (event,) = decide(before, request(remove("s2"), add("s3")), subject(named=("s1",)))
    assert isinstance(event, ShareChanged)
    assert event.terms.scope == some(s1="all", s3="all")
