"""Pure: shares and terms in the words that pages show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.permissions import AllServices, Permission, PermissionSet, Terms
from portal.answers import Device

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
    """``services`` names each with what may be done; it is empty when all are shared."""

    summary: str
    services: tuple[tuple[str, str], ...]
    scripting: bool


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
    return TermsInWords(summary, services, terms.scripting)


@dataclass(frozen=True, slots=True)
class ShareInWords:
    """``arrow`` is none, in, out or both; ``label`` says it in words."""

    arrow: str
    label: str
    detail: str


def share_in_words(device: Device) -> ShareInWords:
    """Who shares a device with whom, as its owner or recipient may know it."""
    label = {
        "none": "Not shared",
        "in": "Shared with you",
        "out": "Shared by you",
        "both": "Shared with you, and by you",
    }[device.share_state]
    parts: list[str] = []
    if device.share_state in ("in", "both"):
        parts.append(f"from {device.owner.name or device.owner.email or 'its owner'}")
    if device.owned:
        for state, words in (("active", "with {}"), ("requested", "waiting for {}")):
            people = [entry.email or "somebody" for entry in device.access if entry.state == state]
            if people:
                shown = people if len(people) <= 3 else [*people[:2], f"{len(people) - 2} others"]
                parts.append(words.format(listed(shown)))
    return ShareInWords(device.share_state, label, ", ".join(parts))
