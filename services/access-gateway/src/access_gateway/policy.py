"""Who may do what: the gateway's whole decision, without any input or output.

Protocols build an `AccessRequest` and obey the `Verdict`; they decide nothing themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from contracts.permissions import AllServices, Permission, Terms, granted
from contracts.positions import Position

CAMERA_PROTOCOLS = frozenset({"rtsp", "rtsps"})
CAMERA_FUNCTIONS = frozenset({Permission.LIVE_VIEW, Permission.PLAYBACK, Permission.TWO_WAY_AUDIO})
"""What the stream of a camera can carry."""


class Refusal(StrEnum):
    """Why not: a stable code, the ``reason`` of its event. The first four are a verdict's, the others are of
    what comes before and after it."""

    UNAVAILABLE = "UNAVAILABLE"
    NOT_YET_VISIBLE = "NOT_YET_VISIBLE"
    ACCESS_DENIED = "ACCESS_DENIED"
    STALE = "STALE"
    RATE_LIMITED = "RATE_LIMITED"
    WRONG_SOURCE = "WRONG_SOURCE"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    TARGET_NOT_ALLOWED = "TARGET_NOT_ALLOWED"
    TARGET_UNREACHABLE = "TARGET_UNREACHABLE"
    DEVICE_OFFLINE = "DEVICE_OFFLINE"


class Reason(StrEnum):
    """What the grants say; for the log and for those who ask why, never for who was refused."""

    OWNER = "owner"
    GRANTED = "granted"
    NO_GRANT = "no_grant"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Who asks for what.

    ``permission`` is the function that is asked for; a set: any one of them is enough, for a protocol that
    reads the stream and holds back what is not granted; None: what a plain pipe of bytes to the service
    needs, see `carried_by`. ``positions`` are what the answer must have seen already.
    """

    account_id: str
    service_id: str
    permission: Permission | frozenset[Permission] | None = None
    positions: tuple[Position, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a device, as its registry says; the paths are those of a camera's streams."""

    service_id: str
    protocol: str
    channel: int | None
    target_host: str
    target_port: int
    supported: frozenset[Permission]
    live_path: str | None = None
    recording_path: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """An accepted share. It holds from ``begins`` until ``ends``, which is not part of it, in seconds of our
    monotonic clock; None: without a start, without an end."""

    share_id: UUID
    terms: Terms
    begins: float | None
    ends: float | None


@dataclass(frozen=True, slots=True)
class DeviceGrants:
    """All that decides about one device, as it was at ``version``. ``shares`` are by account, and only those
    that its present owner gave."""

    device_id: str
    owner_account_id: str
    version: int
    partition: int
    quarantined: bool
    services: Mapping[str, Service]
    shares: Mapping[str, Sequence[Share]]


@dataclass(frozen=True, slots=True)
class ServiceAccess:
    """What one account may do with one service now, and where that is.

    ``functions`` are those granted, each with the share that gives it (None: he owns the device);
    ``withheld`` what the service can do besides. ``until`` is when this must be judged again, in seconds of
    our monotonic clock; None: it changes only with the device.
    """

    service_id: str
    device_id: str
    device_version: int
    partition: int
    protocol: str
    channel: int | None
    target_host: str
    target_port: int
    functions: Mapping[Permission, UUID | None]
    withheld: frozenset[Permission]
    owned: bool
    until: float | None = None
    live_path: str | None = None
    recording_path: str | None = None


class Found(NamedTuple):
    """What was found about one account and one service.

    ``accesses`` has one for each device with such a service, mostly one, the one that counts first;
    ``reason`` is told when none of them is enough.
    """

    accesses: tuple[ServiceAccess, ...]
    reason: Reason


NOTHING = Found((), Reason.NO_GRANT)


class Allowed(NamedTuple):
    """Yes. ``share_id`` is None for the owner. ``version`` is the device's that was seen, ``age`` the seconds
    since it was proved that nothing newer was missing."""

    access: ServiceAccess
    permission: Permission
    share_id: UUID | None
    reason: Reason
    version: int
    age: float


class Refused(NamedTuple):
    """No, and why. Version and age are None unless access was found that is too old to count."""

    code: Refusal
    reason: Reason = Reason.UNKNOWN
    version: int | None = None
    age: float | None = None


Verdict = Allowed | Refused


def find(devices: Iterable[DeviceGrants], account_id: str, service_id: str, now: float) -> Found:
    """What an account may do with a service that these devices have, at ``now`` of our monotonic clock."""
    owned: list[ServiceAccess] = []
    given: list[ServiceAccess] = []
    quarantined = False
    for device in sorted(devices, key=lambda each: each.device_id):
        service = device.services.get(service_id)
        if service is None:
            continue
        if account_id == device.owner_account_id:
            everything = dict.fromkeys(service.supported | {Permission.SCRIPTING})
            owned.append(_access(device, service, everything, owned=True, until=None))
            continue
        shares = device.shares.get(account_id, ())
        functions = _functions(shares, service, now)
        if functions and device.quarantined:
            quarantined = True
        elif functions:
            until = min(_boundaries(shares, service_id, now), default=None)
            given.append(_access(device, service, functions, owned=False, until=until))
    return Found((*owned, *given), Reason.QUARANTINED if quarantined else Reason.NO_GRANT)


def _functions(shares: Sequence[Share], service: Service, now: float) -> dict[Permission, UUID | None]:
    functions: dict[Permission, UUID | None] = {}
    # Of several shares that give the same, the one that lasts longest is named.
    for share in sorted(shares, key=_longest_first):
        if (share.begins is None or share.begins <= now) and (share.ends is None or share.ends > now):
            for function in granted(share.terms, service.service_id, service.supported):
                functions.setdefault(function, share.share_id)
    return functions


def _longest_first(share: Share) -> tuple[bool, float, UUID]:
    return share.ends is not None, -(share.ends or 0.0), share.share_id


def _boundaries(shares: Sequence[Share], service_id: str, now: float) -> Iterable[float]:
    return (
        moment
        for share in shares
        for moment in (share.begins, share.ends)
        if moment is not None and moment > now and covers(share.terms, service_id)
    )


def covers(terms: Terms, service_id: str) -> bool:
    """Whether a service is in the scope of these terms."""
    return isinstance(terms.scope, AllServices) or service_id in terms.scope.services


def _access(
    device: DeviceGrants,
    service: Service,
    functions: Mapping[Permission, UUID | None],
    *,
    owned: bool,
    until: float | None,
) -> ServiceAccess:
    return ServiceAccess(
        service_id=service.service_id,
        device_id=device.device_id,
        device_version=device.version,
        partition=device.partition,
        protocol=service.protocol,
        channel=service.channel,
        target_host=service.target_host,
        target_port=service.target_port,
        functions=functions,
        withheld=service.supported - functions.keys(),
        owned=owned,
        until=until,
        live_path=service.live_path,
        recording_path=service.recording_path,
    )


def carried_by(request: AccessRequest, access: ServiceAccess) -> Permission | None:
    """The granted function that carries what is asked for; None: there is none.

    A plain pipe needs ``connect``. To a camera it needs ``live_view``, and that nothing is withheld that its
    stream could carry: nobody looks into the stream, so nothing could be held back.
    """
    wanted = request.permission
    if wanted is None:
        if access.protocol not in CAMERA_PROTOCOLS:
            wanted = Permission.CONNECT
        elif access.withheld & CAMERA_FUNCTIONS:
            return None
        else:
            wanted = Permission.LIVE_VIEW
    if isinstance(wanted, Permission):
        return wanted if wanted in access.functions else None
    return next((each for each in Permission if each in wanted and each in access.functions), None)


def verdict(
    request: AccessRequest,
    found: Found | None,
    *,
    freshness: "Freshness",
    now: float,
    max_staleness: float,
    positions_applied: bool = False,
) -> Verdict:
    """Decide one request at ``now`` of our monotonic clock. The criteria in order, and the code if one fails:

    1. It is known what is granted (``found`` is not None): ``UNAVAILABLE``.
    2. What is known is not older than a position that the caller named. Access tells the version of its own
       device; a denial tells nothing, so it counts only when ``positions_applied`` (everything that the
       positions name is proved to be applied): ``NOT_YET_VISIBLE``.
    3. A function is granted that carries the request (`carried_by`). No grant, unknown service, unknown
       device, quarantined device are one and the same: ``ACCESS_DENIED``.
    4. The age of the device's partition is known and at most ``max_staleness`` seconds, also for the owner,
       because a transfer of the device could not have been seen: ``STALE``.
    """
    if found is None:
        return Refused(Refusal.UNAVAILABLE)
    for access in found.accesses:
        permission = carried_by(request, access)
        if permission is not None:
            break
    else:
        if request.positions and not positions_applied:
            return Refused(Refusal.NOT_YET_VISIBLE, found.reason)
        return Refused(Refusal.ACCESS_DENIED, found.reason)
    reason = Reason.OWNER if access.owned else Reason.GRANTED
    version = access.device_version
    age = freshness.age(access.partition, now)
    for position in request.positions:
        if position.device_id == access.device_id and position.version > version:
            return Refused(Refusal.NOT_YET_VISIBLE, reason, version, age)
    if age is None or not is_fresh(age, max_staleness):
        return Refused(Refusal.STALE, reason, version, age)
    return Allowed(access, permission, access.functions[permission], reason, version, age)


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
