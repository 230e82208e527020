"""The table of `permission_projector.projection`, and what must hold for any history."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import (
    AnyShareEvent,
    InvitationResent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareExpired,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, Terms
from permission_projector.projection import (
    Applied,
    Duplicate,
    Ignored,
    Quarantine,
    Share,
    ShareState,
    Stream,
    Unreadable,
    VersionedEvent,
    project,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON, LATER = NOW + timedelta(days=1), NOW + timedelta(days=30)
TERMS, OTHER_TERMS = Terms(scope=AllServices()), Terms(scope=AllServices(), scripting=True)
WHO: dict[str, Any] = {
    "share_id": UUID(int=1), "device_id": "cam-1", "contact_id": UUID(int=2), "owner_account_id": "olga",
}  # fmt: skip
SHARE = Share(
    **WHO,
    state=ShareState.REQUESTED,
    account_id=None,
    terms=TERMS.model_dump_json(),
    invitation_version=4,
    expires_at=SOON,
    version=4,
    requested_at=NOW,
    since=NOW,
)

REQUESTED = ShareRequested(**WHO, terms=OTHER_TERMS, expires_at=LATER)
ACCEPTED = ShareAccepted(**WHO, account_id="ravi")
REJECTED = ShareRejected(**WHO, account_id="ravi")
CHANGED_INVITATION = ShareChanged(**WHO, state="requested", terms=OTHER_TERMS, expires_at=LATER)
CHANGED_GRANT = ShareChanged(**WHO, state="active", terms=OTHER_TERMS)
REVOKED = ShareRevoked(**WHO, reason=RevokeReason.BY_OWNER)
LEFT = ShareLeft(**WHO, account_id="ravi")
RESENT = InvitationResent(**WHO, expires_at=LATER)
EXPIRED = ShareExpired(**WHO)

EVENTS = (
    REQUESTED, ACCEPTED, REJECTED, CHANGED_INVITATION, CHANGED_GRANT, RESENT, REVOKED, LEFT, EXPIRED,
)  # fmt: skip
S = ShareState
AFTER: dict[ShareState | None, tuple[ShareState | None, ...]] = {
    None: (S.REQUESTED, None, None, None, None, None, None, None, None),
    S.REQUESTED: (
        None, S.ACTIVE, S.REJECTED, S.REQUESTED, None, S.REQUESTED, S.REVOKED, None, S.EXPIRED,
    ),
    S.ACTIVE: (None, None, None, None, S.ACTIVE, None, S.REVOKED, S.LEFT, S.EXPIRED),
    **dict.fromkeys(
        (S.REJECTED, S.REVOKED, S.LEFT, S.EXPIRED), (S.REQUESTED, *[None] * (len(EVENTS) - 1))
    ),
}  # fmt: skip


def _event(data: AnyShareEvent, version: int, event_id: int = 100) -> VersionedEvent:
    return VersionedEvent(UUID(int=event_id), version, NOW + timedelta(seconds=version), data)


def _stream(state: ShareState | None) -> Stream:
    if state is None:
        return Stream(version=4)
    account_id = "ravi" if state in {S.ACTIVE, S.LEFT} else None
    expires_at = SOON if state is S.REQUESTED else None
    share = SHARE._replace(state=state, account_id=account_id, expires_at=expires_at)
    return Stream(version=4, event_ids={4: UUID(int=4)}, shares={SHARE.share_id: share})


@pytest.mark.parametrize("state", AFTER)
@pytest.mark.parametrize("place", range(len(EVENTS)))
def test_every_event_in_every_state(state: ShareState | None, place: int) -> None:
    outcome = project(_event(EVENTS[place], 5), _stream(state))
    after = AFTER[state][place]
    if after is None:
        assert isinstance(outcome, Quarantine)
        assert outcome.code == "IMPOSSIBLE_EVENT"
    else:
        assert isinstance(outcome, Applied)
        assert outcome.share.state is after
        assert outcome.share.version == 5
        assert outcome.share.expires_at == (LATER if after is S.REQUESTED else None)


def test_acceptance_makes_the_grant_the_accounts() -> None:
    outcome = project(_event(ACCEPTED, 5), _stream(S.REQUESTED))
    assert isinstance(outcome, Applied)
    assert outcome.share == SHARE._replace(
        state=S.ACTIVE, account_id="ravi", expires_at=None, version=5, since=NOW + timedelta(seconds=5)
    )


def test_a_changed_invitation_must_be_seen_again_and_a_changed_grant_holds_at_once() -> None:
    outcome = project(_event(CHANGED_INVITATION, 5), _stream(S.REQUESTED))
    assert isinstance(outcome, Applied)
    assert (outcome.share.terms, outcome.share.invitation_version) == (OTHER_TERMS.model_dump_json(), 5)
    outcome = project(_event(CHANGED_GRANT, 5), _stream(S.ACTIVE))
    assert isinstance(outcome, Applied)
    assert (outcome.share.terms, outcome.share.invitation_version) == (OTHER_TERMS.model_dump_json(), 4)


def test_an_invitation_told_again_is_the_same_for_longer() -> None:
    outcome = project(_event(RESENT, 5), _stream(S.REQUESTED))
    assert isinstance(outcome, Applied)
    assert outcome.share == SHARE._replace(expires_at=LATER, version=5)


@pytest.mark.parametrize("state", [S.LEFT, S.EXPIRED])
def test_an_invitation_after_an_end_is_nobodys_yet(state: ShareState) -> None:
    outcome = project(_event(REQUESTED, 5), _stream(state))
    assert isinstance(outcome, Applied)
    assert (outcome.share.account_id, outcome.share.invitation_version) == (None, 5)


def test_a_new_owner_cannot_change_a_former_owners_share_but_ask_anew_after_its_end() -> None:
    stream = _stream(S.ACTIVE)
    for edit, state in ((CHANGED_GRANT, S.ACTIVE), (CHANGED_INVITATION, S.REQUESTED), (RESENT, S.REQUESTED)):
        by_another = edit.model_copy(update={"owner_account_id": "nina"})
        refused = project(_event(by_another, 5), _stream(state))
        assert isinstance(refused, Quarantine)
        assert refused.code == "IMPOSSIBLE_EVENT"
    stream.advance(project(_event(REVOKED, 5), stream))
    assert stream.shares[SHARE.share_id].state is S.REVOKED
    stream.advance(project(_event(REQUESTED.model_copy(update={"owner_account_id": "nina"}), 6), stream))
    share = stream.shares[SHARE.share_id]
    assert (share.state, share.owner_account_id, share.account_id) == (S.REQUESTED, "nina", None)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (_event(REVOKED, 6), "VERSION_GAP"),
        (_event(REVOKED, 4, event_id=5), "VERSION_CONFLICT"),
        (_event(REVOKED, 3, event_id=4), "VERSION_CONFLICT"),
        (Unreadable("UNKNOWN_TYPE", "no type of ours"), "UNKNOWN_TYPE"),
    ],
)
def test_what_cannot_follow_quarantines_for_good(entry: VersionedEvent | Unreadable, code: str) -> None:
    stream = _stream(S.REQUESTED)
    outcome = project(entry, stream)
    assert isinstance(outcome, Quarantine)
    assert outcome.code == code
    stream.advance(outcome)
    assert project(_event(ACCEPTED, 5), stream) == Ignored()


def test_a_redelivery_changes_nothing() -> None:
    assert project(_event(REVOKED, 4, event_id=4), _stream(S.REQUESTED)) == Duplicate()


@given(st.lists(st.sampled_from(EVENTS), max_size=12), st.data())
def test_redeliveries_anywhere_leave_the_same_shares(
    history: list[AnyShareEvent], data: st.DataObject
) -> None:
    """The relay starts again at its lowest row: any part of what was sent may come once more, in order."""
    stream, applied = Stream(), list[VersionedEvent]()
    for body in history:
        event = _event(body, stream.version + 1, event_id=1000 + len(applied))
        outcome = project(event, stream)
        if isinstance(outcome, Applied):
            stream.advance(outcome)
            applied.append(event)
    again = Stream()
    for place, event in enumerate(applied):
        again.advance(project(event, again))
        start = data.draw(st.integers(0, place + 1))
        for repeated in applied[start : place + 1]:
            outcome = project(repeated, again)
            assert outcome == Duplicate()
            again.advance(outcome)
    assert again == stream
