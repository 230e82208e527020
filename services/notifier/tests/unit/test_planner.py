"""Which event gives which notice, and when a notice is no longer to be sent."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
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
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from notifier.planner import (
    INVITING,
    Invitation,
    Notice,
    Occurrence,
    Template,
    fold,
    link_ends_at,
    plan,
    reminder,
    still_due,
    undeliverable,
)

SHARE, CONTACT = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALL = Terms(scope=AllServices())
LESS = Terms(scope=SomeServices(services={"ssh": frozenset({Permission.CONNECT})}))


def requested(notify: bool = True, terms: Terms = ALL, expires_at: datetime | None = None) -> ShareRequested:
    return ShareRequested(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        terms=terms,
        notify=notify,
        expires_at=expires_at,
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


def accepted(*, automatic: bool = False) -> ShareAccepted:
    return ShareAccepted(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        account_id="bob",
        automatic=automatic,
    )


def resent(expires_at: datetime | None = None) -> InvitationResent:
    return InvitationResent(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        expires_at=expires_at,
    )


def expired(account_id: str | None = None) -> ShareExpired:
    return ShareExpired(
        share_id=SHARE, device_id="cam-1", contact_id=CONTACT, owner_account_id="ann", account_id=account_id
    )


def rejected() -> ShareRejected:
    return ShareRejected(
        share_id=SHARE, device_id="cam-1", contact_id=CONTACT, owner_account_id="ann", account_id="bob"
    )


def revoked(account_id: str | None = None, reason: RevokeReason = RevokeReason.BY_OWNER) -> ShareRevoked:
    return ShareRevoked(
        share_id=SHARE,
        device_id="cam-1",
        contact_id=CONTACT,
        owner_account_id="ann",
        reason=reason,
        account_id=account_id,
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
        before, invitation = invitation, fold(invitation, occurrence)
        if invitation is not None:
            notices += plan(before, invitation, occurrence)
    return invitation, notices


def to_send(*events: AnyShareEvent) -> list[tuple[int, Template]]:
    """The invitations that would be sent if all events arrived before the first was."""
    invitation, notices = history(events)
    return [
        (notice.version, notice.template)
        for notice in notices
        if invitation is not None
        and notice.outside
        and notice.template in INVITING
        and still_due(notice, invitation, NOW)
    ]


TO_CONTACT, TO_BOB, TO_ANN = None, "bob", "ann"


@pytest.mark.parametrize(
    ("earlier", "event", "template", "reader", "outside"),
    [
        ([], requested(), Template.INVITATION, TO_CONTACT, True),
        ([], requested(notify=False), Template.INVITATION, TO_CONTACT, False),
        ([requested()], changed(), Template.INVITATION_CHANGED, TO_CONTACT, True),
        ([requested()], changed(notify=False), Template.INVITATION_CHANGED, TO_CONTACT, False),
        ([requested()], resent(), Template.INVITATION, TO_CONTACT, True),
        ([requested(notify=False)], resent(), Template.INVITATION, TO_CONTACT, True),
        ([requested(), accepted()], changed(active=True), Template.SHARE_CHANGED, TO_BOB, True),
        ([requested(), accepted()], changed(False, active=True), Template.SHARE_CHANGED, TO_BOB, False),
        ([requested()], accepted(), Template.ACCEPTED, TO_ANN, True),
        ([requested()], accepted(automatic=True), Template.ACCEPTED, TO_ANN, True),
        ([requested(notify=False)], accepted(), Template.ACCEPTED, TO_ANN, False),
        ([requested()], rejected(), Template.REJECTED, TO_ANN, True),
        ([requested(), accepted()], left(), Template.LEFT, TO_ANN, True),
        ([requested()], revoked(), Template.REVOKED, TO_CONTACT, True),
        ([requested(notify=False)], revoked(), None, None, None),
        ([requested()], revoked(None, RevokeReason.ADDRESS_ERASED), None, None, None),
        ([requested(), accepted()], revoked("bob"), Template.REVOKED, TO_BOB, True),
        ([requested(), accepted()], expired("bob"), Template.EXPIRED, TO_BOB, True),
        ([requested()], expired(), None, None, None),
    ],
)
def test_each_event_is_told_to_whom_it_concerns(
    earlier: list[AnyShareEvent],
    event: AnyShareEvent,
    template: Template | None,
    reader: str | None,
    outside: bool | None,
) -> None:
    before, _ = history(earlier)
    occurrence = Occurrence(event_id=UUID(int=9), version=4, time=NOW, event=event)
    after = fold(before, occurrence)
    assert after is not None
    notices = plan(before, after, occurrence)
    if template is None:
        assert notices == ()
        return
    (notice,) = notices
    assert (notice.template, notice.account_id, notice.outside) == (template, reader, outside)
    assert (notice.contact_id, notice.version, notice.owner_account_id) == (CONTACT, 4, "ann")
    assert still_due(notice, after, NOW) or not outside


def test_what_has_been_overtaken_is_told_nobody() -> None:
    for earlier, event, later in (
        ([requested()], accepted(), left()),
        ([requested(), accepted()], changed(active=True), changed(active=True)),
        ([requested(), accepted()], changed(active=True), revoked("bob")),
        ([requested(), accepted()], revoked("bob"), requested()),
        ([requested()], rejected(), requested()),
    ):
        _, notices = history([*earlier, event])
        after, _ = history([*earlier, event, later])
        assert after is not None
        assert not still_due(notices[-1], after, NOW), (event, later)


def test_an_end_is_announced_a_day_before_once_and_not_when_it_was_just_told() -> None:
    def end(**delta: int) -> datetime:
        return NOW + timedelta(**delta)

    def remind_at(*events: AnyShareEvent) -> datetime | None:
        invitation, _ = history(events)
        assert invitation is not None
        return invitation.reminder_at

    lasting = ALL.model_copy(update={"ends_at": end(days=3)})
    assert remind_at(requested()) is None
    assert remind_at(requested(expires_at=end(days=30))) == end(days=29)
    assert remind_at(requested(terms=lasting, expires_at=end(days=30))) == end(days=2)
    assert remind_at(requested(expires_at=end(hours=23))) is None
    assert remind_at(requested(expires_at=end(days=30)), accepted()) is None
    assert remind_at(requested(terms=lasting), accepted()) == end(days=2)
    assert remind_at(requested(terms=lasting), accepted(), revoked("bob")) is None

    invitation, _ = history([requested(terms=lasting), accepted()])
    assert invitation is not None
    notice = reminder(invitation)
    assert notice is not None
    assert notice == reminder(invitation)
    assert (notice.template, notice.account_id, notice.event_time) == (Template.EXPIRING, "bob", end(days=3))
    assert still_due(notice, invitation, end(days=2))
    assert not still_due(notice, invitation, end(days=3))
    longer, _ = history([requested(terms=lasting), accepted(), changed(active=True)])
    assert longer is not None
    assert not still_due(notice, longer, end(days=2))
    assert reminder(longer) is None


def test_what_cannot_be_delivered_is_told_the_sharer_once_for_each_notice() -> None:
    invitation, (invited,) = history([requested()])
    assert invitation is not None
    notice = undeliverable(invited, invitation, NOW)
    assert (notice.template, notice.account_id) == (Template.UNDELIVERABLE, "ann")
    assert notice == undeliverable(invited, invitation, NOW)
    assert still_due(notice, invitation, NOW)


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
        ([requested(), accepted(automatic=True)], []),
        ([requested(), resent()], [(2, Template.INVITATION)]),
        ([requested(), resent(), resent()], [(3, Template.INVITATION)]),
        ([requested(notify=False), resent()], [(2, Template.INVITATION)]),
        ([requested(), resent(), changed(notify=False)], [(2, Template.INVITATION)]),
        ([requested(), resent(), changed()], [(3, Template.INVITATION_CHANGED)]),
        ([requested(), resent(), accepted()], []),
        ([requested(), accepted(), resent()], []),
        ([requested(), expired()], []),
        ([requested(), resent(), expired()], []),
        ([requested(), expired(), requested()], [(3, Template.INVITATION)]),
        ([resent()], []),
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


def test_an_invitation_told_again_is_the_one_that_can_be_accepted() -> None:
    later = NOW + timedelta(days=40)
    invitation, _ = history([requested(), changed(), resent(later)])
    assert invitation is not None
    assert (invitation.version, invitation.terms, invitation.expires_at) == (2, LESS, later)


@pytest.mark.parametrize(
    ("invited", "ends", "days"),
    [(None, None, 30), (29, None, 29), (31, None, 30), (None, 3, 3), (5, 3, 3), (3, 5, 3)],
)
def test_links_end_with_the_first_of_all_ends(invited: int | None, ends: int | None, days: int) -> None:
    expires_at, ends_at = (
        None if after is None else NOW + timedelta(days=after) for after in (invited, ends)
    )
    terms = ALL.model_copy(update={"ends_at": ends_at})
    invitation, _ = history([requested(terms=terms, expires_at=expires_at)])
    assert invitation is not None
    assert link_ends_at(NOW, invitation) == NOW + timedelta(days=days)


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
        resent(),
        expired(),
        accepted(automatic=True),
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
        assert isinstance(last, ShareRequested | ShareChanged | InvitationResent)
        assert isinstance(last, InvitationResent) or last.notify
