"""The terms of a share in words. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.permissions import AllServices, Permission, PermissionSet, SomeServices, Terms
from notifier.names import shown

MAX_LISTED = 12

WORDS: Mapping[Permission, str] = {
    Permission.CONNECT: "connect",
    Permission.SCRIPTING: "run scripts",
    Permission.LIVE_VIEW: "watch live",
    Permission.PLAYBACK: "watch recordings",
    Permission.TWO_WAY_AUDIO: "listen and talk",
    Permission.PTZ: "move the camera",
    Permission.ALARM_NOTIFICATIONS: "get alarm notifications",
    Permission.ARM: "arm and disarm",
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """One line of what is allowed: ``what`` (a service, or all) and ``may`` (what one may do with it)."""

    what: str
    may: str


def missing_services(terms: Terms, service_names: Mapping[str, str]) -> frozenset[str]:
    """The services that the terms name and that the device is not yet known to have."""
    match terms.scope:
        case AllServices():
            return frozenset()
        case SomeServices(services=services):
            return frozenset(services) - service_names.keys()


def allowances(terms: Terms, service_names: Mapping[str, str]) -> tuple[Allowance, ...]:
    """What ``terms`` allow, a line a service, at most `MAX_LISTED` and one that counts the rest.

    A service without a known name is shown by its id.
    """
    match terms.scope:
        case AllServices(permissions=permissions):
            lines = [Allowance("All its services, also those added later", _may(permissions, "they"))]
        case SomeServices(services=services):
            named = sorted((shown(service_names.get(item, item)), item) for item in services)
            lines = [Allowance(name, _may(services[item], "it")) for name, item in named[:MAX_LISTED]]
            if len(named) > MAX_LISTED:
                lines.append(Allowance(f"and {len(named) - MAX_LISTED} more services", "see the invitation"))
    if terms.scripting:
        lines.append(Allowance("Scripts", "run scripts on the shared services"))
    return tuple(lines)


def _may(permissions: PermissionSet, subject: str) -> str:
    if permissions == "all":
        return f"everything {subject} can do"
    return ", ".join(word for permission, word in WORDS.items() if permission in permissions)
