"""What the pure cores of the reading side make of events: shares and grants, and the notices that are due."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from model import Entry

from contracts.permissions import Permission, Terms, granted
from notifier.planner import Invitation, Notice, Occurrence, fold, plan, still_due
from permission_projector.projection import Applied, Share, ShareState, Stream, VersionedEvent, project
from share_command import domain

Access = Mapping[str, Mapping[str, frozenset[Permission]]]
"""Account → service → what it may do there by a share."""


@dataclass(slots=True)
class Projected:
    """Feed it with `apply`; ``notices`` are all that were due, each as soon as its step was over."""

    streams: dict[str, Stream] = field(default_factory=dict[str, Stream])
    notices: list[Notice] = field(default_factory=list[Notice])
    _invitations: dict[UUID, Invitation] = field(default_factory=dict[UUID, Invitation])

    def apply(self, entries: Iterable[Entry]) -> None:
        """The events of one step.

        Raises:
            AssertionError: the projection would put the device into quarantine.
        """
        planned: list[Notice] = []
        for entry in entries:
            stream = self.streams.setdefault(entry.event.device_id, Stream())
            event = VersionedEvent(entry.event_id, entry.version, entry.time, entry.event)
            outcome = project(event, stream)
            assert isinstance(outcome, Applied), f"{outcome} at {entry}"
            stream.advance(outcome)
            occurrence = Occurrence(entry.event_id, entry.version, entry.time, entry.event)
            share_id = entry.event.share_id
            before = self._invitations.get(share_id)
            folded = fold(before, occurrence)
            assert folded is not None, f"an event about no invitation: {entry}"
            self._invitations[share_id] = folded
            planned += [notice for notice in plan(before, folded, occurrence) if notice.outside]
        self.notices += [
            notice
            for notice in planned
            if still_due(notice, self._invitations[notice.share_id], notice.event_time)
        ]

    def shares(self) -> list[Share]:
        """Every share there ever was."""
        return [share for stream in self.streams.values() for share in stream.shares.values()]

    def access(self, devices: Mapping[str, domain.Device], at: datetime) -> Access:
        """What the shares give at that time."""
        found: dict[str, dict[str, frozenset[Permission]]] = {}
        for share in self.shares():
            device = devices.get(share.device_id)
            if (
                share.state is not ShareState.ACTIVE
                or device is None
                or device.owner_account_id != share.owner_account_id
                or not _in_force(share, at)
            ):
                continue
            assert share.account_id is not None
            if share.account_id == device.owner_account_id:
                continue  # an owner needs no share
            for service_id, supported in device.services.items():
                terms = Terms.model_validate_json(share.terms)
                functions = granted(terms, service_id, supported or frozenset[Permission]())
                if functions:
                    mine = found.setdefault(share.account_id, {})
                    mine[service_id] = mine.get(service_id, frozenset()) | functions
        return found

    def promised(self, devices: Mapping[str, domain.Device]) -> Access:
        """What every live share gives once it is accepted and has begun, by share."""
        found: dict[str, dict[str, frozenset[Permission]]] = {}
        for share in self.shares():
            device = devices.get(share.device_id)
            if share.state in {ShareState.REQUESTED, ShareState.ACTIVE} and device is not None:
                terms = Terms.model_validate_json(share.terms)
                found[str(share.share_id)] = {
                    service_id: granted(terms, service_id, supported or frozenset[Permission]())
                    for service_id, supported in device.services.items()
                }
        return found


def _in_force(share: Share, at: datetime) -> bool:
    terms = Terms.model_validate_json(share.terms)
    return (terms.starts_at is None or terms.starts_at <= at) and (
        terms.ends_at is None or at < terms.ends_at
    )


def wider(before: Access, after: Access) -> list[str]:
    """What ``after`` gives and ``before`` did not."""
    return [
        f"{account}: {permission} on {service}"
        for account, services in after.items()
        for service, permissions in services.items()
        for permission in permissions - before.get(account, {}).get(service, frozenset())
    ]
