"""Session descriptions (SDP, RFC 8866) as cameras give them, and the same without what may not be seen.

A description is read into lines and written anew from those that are understood: addresses, contacts, links
and unknown attributes are left out, and media can be.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag
from typing import Final

MOST_LINES: Final = 2_000
MOST_MEDIA: Final = 32

_NOWHERE: Final = "IN IP4 0.0.0.0"
_TIME: Final = re.compile(r"[0-9]{1,20} [0-9]{1,20}")
_ORIGIN: Final = re.compile(r"[^ ]+ ([0-9]{1,20}) ([0-9]{1,20}) [^ ]+ [^ ]+ [^ ]+")
_MEDIA: Final = re.compile(
    r"([A-Za-z0-9]{1,32}) [0-9]{1,5}(?:/[0-9]{1,5})? (RTP/[A-Za-z0-9/]{1,32})((?: [0-9]{1,3})+)"
)
_BANDWIDTH: Final = re.compile(r"[A-Za-z0-9-]{1,16}:[0-9]{1,12}")
_ATTRIBUTES: Final = frozenset(
    (
        "rtpmap", "fmtp", "framerate", "framesize", "ptime", "maxptime", "range", "length", "quality", "lang",
        "mid", "rtcp-fb", "rtcp-mux", "rtcp-rsize", "extmap", "cliprect", "x-dimensions",
        "x-onvif-track", "ts-refclk", "mediaclk", "type", "charset",
    )
)  # fmt: skip
"""What is passed on as it is. The directions and ``control`` are written by us."""
_DIRECTIONS: Final = frozenset({"sendrecv", "sendonly", "recvonly", "inactive"})


class Direction(Flag):
    """Which way a medium goes."""

    NONE = 0
    FROM_DEVICE = 1
    TO_DEVICE = 2


class UnreadableError(Exception):
    """Not a session description, or one beyond the bounds."""


@dataclass(frozen=True, slots=True)
class Medium:
    """One medium: its lines (type and value) as they came, which way it goes, and its control URL."""

    lines: tuple[tuple[str, str], ...]
    direction: Direction
    control: str | None


@dataclass(frozen=True, slots=True)
class Description:
    """A session description: the lines before the first medium, and the media."""

    lines: tuple[tuple[str, str], ...]
    control: str | None
    media: tuple[Medium, ...]


def read(text: bytes) -> Description:
    """Read a description.

    A direction is as the client sees it (ONVIF Streaming, section 5.3): what the device sends is
    ``recvonly``, what it wants to be sent is ``sendonly``. A medium without one comes from the device.

    Raises:
        UnreadableError: see there.
    """
    sections: list[list[tuple[str, str]]] = [[]]
    found = text.decode("utf-8", "replace").replace("\r\n", "\n").strip("\n").split("\n")
    if len(found) > MOST_LINES:
        raise UnreadableError("too many lines")
    for line in found:
        kind, equals, value = line[:1], line[1:2], line[2:].strip()
        if (
            equals != "="
            or not ("a" <= kind <= "z")
            or any(ord(char) < 32 or ord(char) == 127 for char in value)
        ):
            raise UnreadableError("a line cannot be read")
        if kind == "m":
            sections.append([])
        sections[-1].append((kind, value))
    session, *media = sections
    if not session or session[0][0] != "v":
        raise UnreadableError("it does not begin with its version")
    if len(media) > MOST_MEDIA:
        raise UnreadableError("too many media")
    usual = _direction(session, Direction.FROM_DEVICE)
    return Description(
        tuple(session), _attribute(session, "control"), tuple(_medium(lines, usual) for lines in media)
    )


def _medium(lines: list[tuple[str, str]], usual: Direction) -> Medium:
    return Medium(
        tuple(lines),
        _direction(lines, usual),
        _attribute(lines, "control"),
    )


def _named(value: str) -> tuple[str, str]:
    name, _, rest = value.partition(":")
    return name.strip().lower(), rest.strip()


def _attribute(lines: list[tuple[str, str]], wanted: str) -> str | None:
    values = [
        value for kind, text in lines if kind == "a" for name, value in [_named(text)] if name == wanted
    ]
    return values[0] if len(values) == 1 else None


def _direction(lines: list[tuple[str, str]], usual: Direction) -> Direction:
    names = {_named(text)[0] for kind, text in lines if kind == "a"} & _DIRECTIONS
    if not names:
        return usual
    # Of two that contradict each other, both count: more is then needed to use the medium, never less.
    direction = Direction.NONE
    if names & {"recvonly", "sendrecv"}:
        direction |= Direction.FROM_DEVICE
    if names & {"sendonly", "sendrecv"}:
        direction |= Direction.TO_DEVICE
    return direction


def write(description: Description, control: Callable[[int], tuple[str, Direction] | None]) -> bytes:
    """The description with those media for which, by index, ``control`` gives a control URL and a direction.

    No address, name, contact or link of the original is in it.
    """
    origin = next(
        (found for kind, value in description.lines if kind == "o" and (found := _ORIGIN.fullmatch(value))),
        None,
    )
    lines = ["v=0", f"o=- {origin[1] if origin else 0} {origin[2] if origin else 0} {_NOWHERE}", "s=Stream"]
    lines.append(f"c={_NOWHERE}")
    lines += _passed(description.lines, "b")
    lines.append(
        "t=" + next((v for kind, v in description.lines if kind == "t" and _TIME.fullmatch(v)), "0 0")
    )
    lines += [*_passed(description.lines, "a"), "a=control:*"]
    for index, medium in enumerate(description.media):
        told = control(index)
        form = _MEDIA.fullmatch(medium.lines[0][1])
        if told is None or form is None:
            continue
        url, direction = told
        lines.append(f"m={form[1]} 0 {form[2]}{form[3]}")
        lines += [*_passed(medium.lines, "b"), *_passed(medium.lines, "a")]
        lines += [f"a={_DIRECTION_NAMES[direction]}", f"a=control:{url}"]
    return ("\r\n".join(lines) + "\r\n").encode()


_DIRECTION_NAMES: Final = {
    Direction.NONE: "inactive",
    Direction.FROM_DEVICE: "recvonly",
    Direction.TO_DEVICE: "sendonly",
    Direction.FROM_DEVICE | Direction.TO_DEVICE: "sendrecv",
}


def _passed(lines: tuple[tuple[str, str], ...], wanted: str) -> list[str]:
    found: list[str] = []
    for kind, value in lines:
        if kind != wanted:
            continue
        if kind == "b":
            if _BANDWIDTH.fullmatch(value):
                found.append(f"b={value}")
            continue
        name, rest = _named(value)
        if name in _ATTRIBUTES and "://" not in rest:
            found.append(f"a={name}:{rest}" if rest else f"a={name}")
    return found
