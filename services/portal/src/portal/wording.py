"""Pure: shares and terms in the words that pages show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from contracts.permissions import AllServices, Permission, PermissionSet, Terms

_CAN = {
    Permission.CONNECT: "connect",
    Permission.LIVE_VIEW: "watch live",
    Permission.PLAYBACK: "watch recordings",
    Permission.TWO_WAY_AUDIO: "listen and talk",
    Permission.PTZ: "move the camera",
    Permission.ALARM_NOTIFICATIONS: "get alarm notifications",
    Permission.ARM: "arm and disarm",
    Permission.SCRIPTING: "run scripts",
}

EVERYTHING = "everything it can do"


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def permissions_in_words(permissions: PermissionSet) -> str:
    """What may be done with a service, in the order of `Permission`."""
    if isinstance(permissions, str):
        return EVERYTHING
    return listed([words for permission, words in _CAN.items() if permission in permissions])


@dataclass(frozen=True, slots=True)
class TermsInWords:
    """``services`` names each with what may be done; it is empty when all are shared. ``period`` tells start
    and end, if there are any.
    """

    summary: str
    services: tuple[tuple[str, str], ...]
    scripting: bool
    period: str


def terms_in_words(terms: Terms, names: Mapping[str, str]) -> TermsInWords:
    """Terms for a person; ``names`` are those of services that are known, by id."""
    match terms.scope:
        case AllServices(permissions=permissions):
            every = "Every service of this device, and those added later"
            summary = every if permissions == "all" else f"{every}: {permissions_in_words(permissions)}"
            services: tuple[tuple[str, str], ...] = ()
        case scope:
            count = len(scope.services)
            summary = "One service of this device" if count == 1 else f"{count} services of this device"
            services = tuple(
                (names.get(service_id, service_id), permissions_in_words(permissions))
                for service_id, permissions in scope.services.items()
            )
    return TermsInWords(summary, services, terms.scripting, _period(terms.starts_at, terms.ends_at))


def _period(starts_at: datetime | None, ends_at: datetime | None) -> str:
    if starts_at is None:
        return "" if ends_at is None else f"Until {moment(ends_at)}."
    if ends_at is None:
        return f"From {moment(starts_at)} on."
    return f"From {moment(starts_at)} until {moment(ends_at)}."


def moment(time: datetime) -> str:
    """A point of time for a person: ``1 February 2027, 08:00 UTC``."""
    utc = time.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"


def terms_in_one_line(terms: Terms) -> str:
    """Terms where there is room for one line; services by their ids."""
    told = terms_in_words(terms, {})
    services = "; ".join(f"{name}: {may}" for name, may in told.services)
    parts = (told.summary, services, "run scripts" if told.scripting else "", told.period)
    return ". ".join(part.rstrip(".") for part in parts if part)
