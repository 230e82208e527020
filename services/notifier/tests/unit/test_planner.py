"""Which event gives which notice, and when a notice is no longer to be sent."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import (
    AnyShareEvent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from notifier.planner import Invitation, Notice, Occurrence, Template, fold, plan, still_due

SHARE, CONTACT = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALL = Terms(scope=AllServices())
LESS = Terms(scope=SomeServices(services={"ssh": frozenset({Permission.CONNECT})}))


def requested(notify: bool = True, terms: Terms = ALL) -> ShareRequested:
    return ShareRequested(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        terms=terms,
        notify=notify,
    )


def changed(notify: bool = True, *, active: bool = False, terms: Terms = LESS) -> ShareChanged:
    return ShareChanged(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        state="active" if active else "requested",
        terms=terms,
        notify=notify,
    )


def accepted() -> ShareAccepted:
    return ShareAccepted(
        share_id=SHARE, device_id="cam-1", contact_id=CONTACT, owner_account_id="ann", account_id="bob"
    )


def rejected() -> ShareRejected:
    return ShareRejected(
        share_id=SHARE, device_id="cam-1", contact_id=CONTACT, owner_account_id="ann", account_id="bob"
    )


def revoked() -> ShareRevoked:
    return ShareRevoked(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        reason=RevokeReason.BY_OWNER,
    )


def left() -> ShareLeft:
    return ShareLeft(
        share_id=SHARE, device_id="cam-1", contact_id=CONTACT, owner_account_id="ann", account_id="bob"
    )


def history(events: Sequence[AnyShareEvent]) -> tuple[Invitation | None, list[Notice]]:
    """What is known, and all notices planned, after the events of one share at versions 1, 2, …"""
    invitation: Invitation | None = None
    notices: list[Notice] = []
    for version, event in enumerate(events, start=1):
        occurrence = Occurrence(event_id=UUID(int=version), version=version, time=NOW, event=event)
        invitation = fold(invitation, occurrence)
        notices += plan(occurrence)
    return invitation, notices


def to_send(*events: AnyShareEvent) -> list[tuple[int, Template]]:
    """The notices that would be sent if all events arrived before the first was."""
    invitation, notices = history(events)
    return [
        (notice.version, notice.template)
        for notice in notices
        if invitation is not None and still_due(notice.version, invitation)
    ]


@pytest.mark.parametrize(
    ("event", "template"),
    [
        (requested(), Template.INVITATION),
        (requested(notify=False), None),
        (changed(), Template.INVITATION_CHANGED),
        (changed(notify=False), None),
        (changed(active=True), None),
        (changed(notify=False, active=True), None),
        (accepted(), None),
        (rejected(), None),
        (revoked(), None),
        (left(), None),
    ],
)
def test_each_event_is_told_to_the_contact_or_to_nobody(
    event: AnyShareEvent, template: Template | None
) -> None:
    notices = plan(Occurrence(event_id=UUID(int=9), version=4, time=NOW, event=event))
    assert [notice.template for notice in notices] == ([] if template is None else [template])
    assert all(notice.contact_id == CONTACT and notice.version == 4 for notice in notices)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([requested()], [(1, Template.INVITATION)]),
        ([requested(), changed()], [(2, Template.INVITATION_CHANGED)]),
        ([requested(), changed(notify=False)], [(1, Template.INVITATION)]),
        ([requested(notify=False), changed()], [(2, Template.INVITATION_CHANGED)]),
        ([requested(), accepted()], []),
        ([requested(), rejected()], []),
        ([requested(), revoked()], []),
        ([requested(), accepted(), left()], []),
        ([requested(), accepted(), changed(active=True)], []),
        ([requested(), revoked(), requested()], [(3, Template.INVITATION)]),
        ([requested(), revoked(), requested(notify=False)], []),
        ([requested(), rejected(), requested(notify=False), changed(notify=False)], []),
    ],
)
def test_only_the_last_notice_of_an_open_invitation_is_sent(
    events: list[AnyShareEvent], expected: list[tuple[int, Template]]
) -> None:
    assert to_send(*events) == expected


def test_a_silent_change_before_the_mail_went_out_changes_what_it_says() -> None:
    invitation, _ = history([requested(), changed(notify=False)])
    assert invitation is not None
    assert (invitation.version, invitation.terms) == (2, LESS)


events = st.sampled_from(
    [
        requested(),
        requested(notify=False),
        changed(),
        changed(notify=False),
        changed(active=True),
        accepted(),
        rejected(),
        revoked(),
        left(),
    ]
)


@settings(deadline=None)  # how long it takes says nothing about it
@given(st.lists(events, max_size=12))
def test_never_more_than_one_mail_is_open_and_none_without_an_open_invitation(
    chosen: list[AnyShareEvent],
) -> None:
    sending = to_send(*chosen)
    invitation, _ = history(chosen)
    assert len(sending) <= 1
    if sending:
        assert invitation is not None
        assert invitation.state == "requested"
        last = chosen[sending[0][0] - 1]
        assert isinstance(last, ShareRequested | ShareChanged)
        assert last.notify
