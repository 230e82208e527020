"""Who may connect: the gateway's whole decision, without any input or output.

Protocols build an `AccessRequest` and obey the `Verdict`; they decide nothing themselves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from contracts.permissions import Permission
from contracts.positions import Position

RELAYED_PERMISSIONS = (Permission.CONNECT, Permission.LIVE_VIEW)
"""What may let bytes through a plain port; every check asks for all of them, whatever the service is."""

_CAMERA_PROTOCOLS = frozenset({"rtsp", "rtsps"})
_CAMERA_FUNCTIONS = frozenset({Permission.LIVE_VIEW, Permission.PLAYBACK, Permission.TWO_WAY_AUDIO})


class Refusal(StrEnum):
    """Why not: the stable code of a verdict, and the ``reason`` of its event."""

    UNAVAILABLE = "UNAVAILABLE"
    NOT_YET_VISIBLE = "NOT_YET_VISIBLE"
    ACCESS_DENIED = "ACCESS_DENIED"
    STALE = "STALE"


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Who asks for what. ``positions`` are what the answer must have seen already."""

    account_id: str
    service_id: str
    positions: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """What `check_grant_v1` said of one permission. All that describes the device is None unless allowed.

    ``lacking`` is what the service can do and the account may not.
    """

    permission: Permission
    allowed: bool
    reason: str
    device_id: str | None = None
    device_version: int | None = None
    share_id: UUID | None = None
    partition: int | None = None
    target_host: str | None = None
    target_port: int | None = None
    protocol: str | None = None
    lacking: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes, and to where. ``share_id`` is None for the owner; ``device_version`` is the version seen."""

    permission: Permission
    device_id: str
    device_version: int
    share_id: UUID | None
    partition: int
    target_host: str
    target_port: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and why."""

    code: Refusal


Verdict = Allowed | Refused


def permission_for(protocol: str) -> Permission:
    """What a plain port to a service of this protocol needs.

    A camera's stream is ``live_view``; everything else is ``connect``.
    """
    return Permission.LIVE_VIEW if protocol in _CAMERA_PROTOCOLS else Permission.CONNECT


def applicable(grants: Iterable[Grant]) -> Grant:
    """The grant that counts among those of `RELAYED_PERMISSIONS` on one service.

    It is the allowed one whose permission the service's protocol needs; without such a one, a denial.
    """
    for grant in grants:
        if (
            grant.allowed
            and grant.protocol is not None
            and permission_for(grant.protocol) == grant.permission
        ):
            return grant
    return Grant(Permission.CONNECT, allowed=False, reason="no_grant")


def granted(grant: Grant) -> Allowed | None:
    """The access that a grant gives by a plain port; None when it gives none, or leaves out a fact we need.

    A plain port does not look into the stream, so it cannot hold back playback or talking back to a camera:
    it is given only to who lacks none of them. Part of a camera's functions is for a relay that reads RTSP.
    """
    if (
        not grant.allowed
        or grant.device_id is None
        or grant.device_version is None
        or grant.partition is None
        or grant.target_host is None
        or grant.target_port is None
        or grant.protocol is None
        or grant.lacking is None
        or permission_for(grant.protocol) != grant.permission
        or (grant.protocol in _CAMERA_PROTOCOLS and grant.lacking & _CAMERA_FUNCTIONS)
    ):
        return None
    return Allowed(
        permission=grant.permission,
        device_id=grant.device_id,
        device_version=grant.device_version,
        share_id=grant.share_id,
        partition=grant.partition,
        target_host=grant.target_host,
        target_port=grant.target_port,
        protocol=grant.protocol,
    )


def verdict(
    request: AccessRequest,
    grant: Grant | None,
    *,
    freshness_age: float | None,
    max_staleness: float,
    positions_applied: bool = False,
) -> Verdict:
    """Decide one request. The criteria in order, and the code when one fails:

    1. The grant store answered (``grant`` is not None): ``UNAVAILABLE``.
    2. The answer is not older than a position that the caller named. An allowed answer tells the version of
       its own device; a denial tells nothing, so it counts only when ``positions_applied`` (everything that
       the positions name is proved to be applied): ``NOT_YET_VISIBLE``.
    3. The permission that the service's protocol needs is granted, with everything that connecting needs; of
       a camera, nothing that its stream could carry is withheld.
       No grant, unknown service, unknown device, quarantined device are one and the same: ``ACCESS_DENIED``.
    4. The age of the device's partition is known and at most ``max_staleness`` seconds, also for the owner,
       because a transfer of the device could not have been seen: ``STALE``.

    ``freshness_age`` is in seconds, None when it was never proved.
    """
    if grant is None:
        return Refused(Refusal.UNAVAILABLE)
    access = granted(grant)
    if access is None:
        if request.positions and not positions_applied:
            return Refused(Refusal.NOT_YET_VISIBLE)
        return Refused(Refusal.ACCESS_DENIED)
    for position in request.positions:
        if position.device_id == access.device_id and position.version > access.device_version:
            return Refused(Refusal.NOT_YET_VISIBLE)
    if not is_fresh(freshness_age, max_staleness):
        return Refused(Refusal.STALE)
    return access


def is_fresh(age: float | None, max_staleness: float) -> bool:
    """Whether an age is proof enough; None (never proved) and negative (from the future) are not."""
    return age is not None and 0 <= age <= max_staleness


@dataclass(frozen=True, slots=True)
class Freshness:
    """What one poll of `freshness_v1` proved.

    ``began`` is our monotonic clock when the poll began, so that what the answer took counts as age.
    ``ages`` is, by partition, the database's now minus ``as_of``, in seconds; None when there is no
    ``as_of`` or it is ahead of the database's clock.
    """

    began: float = 0.0
    ages: Mapping[int, float | None] = field(default_factory=dict[int, float | None])

    def age(self, partition: int | None, now: float) -> float | None:
        """Age in seconds of one device partition at ``now`` (our monotonic clock); None: not proved."""
        age = None if partition is None else self.ages.get(partition)
        return None if age is None else age + (now - self.began)

    def oldest(self, now: float) -> float | None:
        """Age of the stalest partition; None when one of them, or all, are not proved."""
        ages = [self.age(partition, now) for partition in self.ages]
        known = [age for age in ages if age is not None]
        return max(known) if known and len(known) == len(ages) else None

    def newest(self, now: float) -> float | None:
        """Age of the freshest partition; None when none is proved."""
        ages = (self.age(partition, now) for partition in self.ages)
        return min((age for age in ages if age is not None), default=None)
