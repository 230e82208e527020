"""The addresses that people use, and those that the camera uses, each read into its parts.

A person's address is ``rtsp://<gateway>/<service_id>``, with ``/live`` (which may be left out) or
``/recording`` after it, and below these ``/track<n>``. No part of it is ever sent to the camera, except the
times of a recording: a camera is asked for paths that its registry names, or that its own descriptions name.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contracts.directory import CHANNEL

_OURS: Final = re.compile(
    r"(?P<root>(?i:rtsps?)://(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?)"
    r"/(?P<service>(?:[A-Za-z0-9:._-]|%3[Aa]){1,192})(?:/(?P<stream>live|recording))?(?:/track(?P<track>[0-9]{1,2}))?/?"
    r"(?:\?(?P<query>[\x21-\x7e]{1,200}))?"
)
_SERVICE: Final = re.compile(r"[A-Za-z0-9:._-]{1,64}")
_TIMES: Final = re.compile(r"(starttime|endtime)=[0-9A-Za-z:_.+-]{1,40}")
_THEIRS: Final = re.compile(r"rtsps?://[^/?#\s]*(?P<path>/[\x21-\x7e]*)?", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x21-\x7e]{1,1000}")


class Stream(StrEnum):
    """What an address leads to."""

    LIVE = "live"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Address:
    """A person's address. ``root`` is what he calls the gateway; ``times`` a recording's query, or empty."""

    root: str
    service_id: str
    stream: Stream
    track: int | None
    times: str

    @property
    def base(self) -> str:
        """The address of the stream, with a slash at its end."""
        return f"{self.root}/{self.service_id}/{self.stream}/"


def read(uri: str) -> Address | None:
    """Read the address of a request; None: it is none of ours."""
    found = _OURS.fullmatch(uri)
    if found is None:
        return None
    service_id = found["service"].replace("%3a", ":").replace("%3A", ":")
    stream, track, times = found["stream"] or "live", found["track"], found["query"] or ""
    if not _SERVICE.fullmatch(service_id) or (times and not _are_times(stream, times)):
        return None
    return Address(found["root"], service_id, Stream(stream), None if track is None else int(track), times)


def _are_times(stream: str, query: str) -> bool:
    parts = query.split("&")
    names = [part.partition("=")[0] for part in parts]
    return (
        stream == Stream.RECORDING
        and all(_TIMES.fullmatch(part) for part in parts)
        and len(set(names)) == len(names)
    )


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's own addresses: its authority, and path templates as its registry names them."""

    authority: str
    live: str
    recording: str | None
    channel: int | None

    @property
    def one_path(self) -> bool:
        """Whether recordings are asked for at the address of the live picture."""
        return self.recording == self.live

    def path(self, stream: Stream, times: str) -> str | None:
        """Path and query of a stream; None when it has no address."""
        template = self.live if stream is Stream.LIVE else self.recording
        if template is None:
            return None
        path = template.replace(CHANNEL, str(self.channel))
        return f"{path}{'&' if '?' in path else '?'}{times}" if times else path

    def url(self, path: str) -> str:
        """A path as the absolute address that a request needs."""
        return f"rtsp://{self.authority}{path}"


def path_of(url: str) -> str | None:
    """Path and query of an address that a camera names; None when it is none.

    Whose it says it is means nothing: everything goes through the one connection to the camera.
    """
    found = _THEIRS.fullmatch(url)
    return None if found is None else found["path"] or "/"


def resolve(base: str, control: str | None) -> str | None:
    """The path of a control attribute (RFC 2326, section C.1.1) below a base path; None: it cannot be used.

    As every client does it: what is relative is put after the base and a slash.
    """
    if control is None or control == "*":
        return base
    if not _CONTROL.fullmatch(control):
        return None
    if "://" in control:
        return path_of(control)
    return control if control.startswith("/") else f"{base}{'' if base.endswith('/') else '/'}{control}"
