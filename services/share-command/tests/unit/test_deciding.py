"""Every cell of the table in `share_command.domain.deciding`, and who may do what."""

from dataclasses import replace
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
    RevokeReason,
    ShareChanged,
    ShareLeft,
    ShareRejected,
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
    TermsOrder,
)
from share_command import domain
from share_command.domain import Device, Rules, Share, State, Subject
from share_command.errors import (
    Conflict,
    DeviceNotFound,
    Refused,
    SelfShare,
)

SHARE_ID, CONTACT = uuid4(), uuid4()


DEVICE = Device("cam", "owner", dict.fromkeys(("s1", "s2", "s3")))


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


LIVE = frozenset({Permission.LIVE_VIEW})


def decide(share: Share | None, command: AnyCommand, on: Subject) -> tuple[AnyShareEvent, ...]:
    return domain.decide(share, command, on, now=NOW, rules=Rules())


def evolve(share: Share | None, event: AnyShareEvent, version: int) -> Share:
    return domain.evolve(share, event, version, NOW)


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


def change(actor: str = "owner", version: int = 1, **terms: Any) -> ChangeShare:
    return ChangeShare(
        command_id="c", actor=actor, device_id="cam", share_id=SHARE_ID, expected_version=version,
        terms=TermsOrder.model_validate({"scope": {"kind": "all"}, **terms}),
    )  # fmt: skip


def resend(actor: str = "owner") -> ResendInvitation:
    return ResendInvitation(command_id="c", actor=actor, device_id="cam", share_id=SHARE_ID)


def remove_recipient(actor: str = "owner") -> RemoveRecipient:
    return RemoveRecipient(command_id="c", actor=actor, recipient="ann@x.test")


NOTHING: Any = {"kind": "some", "services": {}}


def one(events: tuple[AnyShareEvent, ...]) -> AnyShareEvent | None:
    assert len(events) <= 1
    return events[0] if events else None


ENDED: tuple[State, ...] = ("rejected", "revoked", "left", "expired")


Row = tuple[State | None, AnyCommand, str | type[Refused] | None]


def ended_rows(state: State) -> list[Row]:
    return [
        (state, request(), "ShareRequested"),
        (state, EMPTYING, None),
        (state, accept(), Conflict),
        (state, reject(), Conflict),
        (state, change(), Conflict),
        (state, resend(), Conflict),
        (state, revoke(), None),
        (state, remove_recipient(), None),
        (state, leave(), None),
    ]


EMPTYING = request(remove("s1"), remove("s2"), remove("s3"))


TABLE: list[Row] = [
    (None, request(), "ShareRequested"),
    (None, EMPTYING, None),
    (None, accept(), DeviceNotFound),
    (None, reject(), DeviceNotFound),
    (None, change(), DeviceNotFound),
    (None, resend(), DeviceNotFound),
    (None, revoke(), None),
    (None, remove_recipient(), None),
    (None, leave(), DeviceNotFound),
    *(row for state in ENDED for row in ended_rows(state)),
    ("requested", request(scripting=True), "ShareChanged"),
    ("requested", request(), None),
    ("requested", EMPTYING, "ShareRevoked"),
    ("requested", accept(), "ShareAccepted"),
    ("requested", accept(version=2), Conflict),
    ("requested", reject(), "ShareRejected"),
    ("requested", change(scripting=True), "ShareChanged"),
    ("requested", change(), None),
    ("requested", change(scope=NOTHING), "ShareRevoked"),
    ("requested", change(version=2), Conflict),
    ("requested", resend(), "InvitationResent"),
    ("requested", revoke(), "ShareRevoked"),
    ("requested", remove_recipient(), "ShareRevoked"),
    ("requested", leave(), "ShareRejected"),
    ("active", request(scripting=True), "ShareChanged"),
    ("active", request(), None),
    ("active", EMPTYING, "ShareRevoked"),
    ("active", accept(), None),
    ("active", accept(version=2), None),
    ("active", reject(), Conflict),
    ("active", change(scripting=True), "ShareChanged"),
    ("active", change(), None),
    ("active", change(scope=NOTHING), "ShareRevoked"),
    ("active", change(version=2), Conflict),
    ("active", resend(), Conflict),
    ("active", revoke(), "ShareRevoked"),
    ("active", remove_recipient(), "ShareRevoked"),
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
    ("requested", change(scripting=True), "requested"),
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
    "command",
    [
        request(actor="eve"), revoke("eve"), leave("eve"), accept("eve"), reject("eve"), change("eve"),
        resend("eve"),
    ],
)  # fmt: skip
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
