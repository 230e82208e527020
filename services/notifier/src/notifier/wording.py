"""The terms of a share in words. Pure but for the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from contracts.permissions import AllServices, Permission, PermissionSet, SomeServices, Terms
from notifier.catalogue import Voice
from notifier.names import shown

MAX_LISTED: Final = 12


@dataclass(frozen=True, slots=True)
class Allowance:
    """One line of what is allowed: ``what`` (a service, all, when) and ``may`` (what one may do with it)."""

    what: str
    may: str


def missing_services(terms: Terms, service_names: Mapping[str, str]) -> frozenset[str]:
    """The services that the terms name and that the device is not yet known to have."""
    match terms.scope:
        case AllServices():
            return frozenset()
        case SomeServices(services=services):
            return frozenset(services) - service_names.keys()


def allowances(voice: Voice, terms: Terms, service_names: Mapping[str, str]) -> tuple[Allowance, ...]:
    """What ``terms`` allow, a line a service, at most `MAX_LISTED` and one that counts the rest; then
    scripting, and the start and end, if there are any.

    A service without a known name is shown by its id.
    """
    match terms.scope:
        case AllServices(permissions=permissions):
            what = voice.say("All its services, also those added later")
            lines = [Allowance(what, _may(voice, permissions, voice.say("everything they can do")))]
        case SomeServices(services=services):
            named = sorted((shown(service_names.get(item, item)), item) for item in services)
            everything = voice.say("everything it can do")
            lines = [
                Allowance(voice.name(name), _may(voice, services[item], everything))
                for name, item in named[:MAX_LISTED]
            ]
            if len(named) > MAX_LISTED:
                more = voice.say_n(
                    "and %(count)s more service", "and %(count)s more services", len(named) - MAX_LISTED
                )
                lines.append(Allowance(more, voice.say("see the invitation")))
    if terms.scripting:
        lines.append(Allowance(voice.say("Scripts"), voice.say("run scripts on the shared services")))
    if window := _window(voice, terms):
        lines.append(Allowance(voice.say("When"), window))
    return tuple(lines)


def _window(voice: Voice, terms: Terms) -> str:
    if terms.starts_at is None:
        return "" if terms.ends_at is None else voice.say("until %(end)s", end=voice.moment(terms.ends_at))
    if terms.ends_at is None:
        return voice.say("from %(start)s", start=voice.moment(terms.starts_at))
    return voice.say(
        "from %(start)s until %(end)s", start=voice.moment(terms.starts_at), end=voice.moment(terms.ends_at)
    )


def _may(voice: Voice, permissions: PermissionSet, everything: str) -> str:
    if permissions == "all":
        return everything
    words: Mapping[Permission, str] = {
        Permission.CONNECT: voice.say("connect"),
        Permission.SCRIPTING: voice.say("run scripts"),
        Permission.LIVE_VIEW: voice.say("watch live"),
        Permission.PLAYBACK: voice.say("watch recordings"),
        Permission.TWO_WAY_AUDIO: voice.say("listen and talk"),
        Permission.PTZ: voice.say("move the camera"),
        Permission.ALARM_NOTIFICATIONS: voice.say("get alarm notifications"),
        Permission.ARM: voice.say("arm and disarm"),
    }
    return voice.joined(", ", [word for permission, word in words.items() if permission in permissions])
