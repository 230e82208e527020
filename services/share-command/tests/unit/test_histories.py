"""Random histories of commands."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ShareRevoked,
)
from contracts.permissions import (
    AllServices,
    Permission,
    Scope,
    Terms,
    TermsOrder,
)
from share_command import domain
from share_command.domain import Device, Rules, Share, State, Subject, is_recipient
from share_command.errors import (
    RateLimited,
    Refused,
)

SHARE_ID, CONTACT = uuid4(), uuid4()


DEVICE = Device("cam", "owner", dict.fromkeys(("s1", "s2", "s3")))


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


LIVE = frozenset({Permission.LIVE_VIEW})


PLAY = frozenset({Permission.PLAYBACK})


def decide(share: Share | None, command: AnyCommand, on: Subject) -> tuple[AnyShareEvent, ...]:
    return domain.decide(share, command, on, now=NOW, rules=Rules())


def evolve(share: Share | None, event: AnyShareEvent, version: int) -> Share:
    return domain.evolve(share, event, version, NOW)


def subject(
    *, verified: bool = False, device: Device | None = DEVICE, named: tuple[str, ...] = ()
) -> Subject:
    return Subject("cam", CONTACT, uuid4(), device, verified, named)


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
    st.builds(change, st.sampled_from(["owner", "new", "ann"]), st.integers(1, 8), scripting=st.booleans()),
    st.builds(resend, st.sampled_from(["owner", "new", "ann"])),
    st.builds(remove_recipient, st.sampled_from(["owner", "new", "ann"])),
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
        except (Refused, RateLimited):
            continue
        for event in decided:
            seen = now
            assert command.actor == owner or (
                seen is not None
                and (
                    is_recipient(seen, command.actor, verified=verified)
                    or (isinstance(command, RemoveRecipient) and seen.owner_account_id == command.actor)
                )
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
            if isinstance(event, ShareRevoked) and not isinstance(command, RemoveRecipient):
                by_owner = event.reason is RevokeReason.BY_OWNER
                assert by_owner == (seen is not None and seen.owner_account_id == owner)
        again = isinstance(command, RequestShare) and not command.services
        if command.actor == owner and (again or isinstance(command, RevokeShare | RemoveRecipient)):
            assert decide(now, command, on) == (), "doing again what is done"
    replayed: Share | None = None
    for version, event in enumerate(events, 1):
        replayed = evolve(replayed, event, version)
    assert replayed == now
