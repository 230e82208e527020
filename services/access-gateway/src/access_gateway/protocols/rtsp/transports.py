"""The headers ``Transport`` and ``RTP-Info`` (RFC 2326, sections 12.39 and 12.33)."""

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

CHANNELS: Final = 256

_PROFILE: Final = re.compile(r"RTP/S?AVPF?/TCP", re.IGNORECASE)
_INTERLEAVED: Final = re.compile(r"interleaved=([0-9]{1,3})(?:-([0-9]{1,3}))?", re.IGNORECASE)
_SSRC: Final = re.compile(r"ssrc=[0-9A-Fa-f]{1,8}", re.IGNORECASE)
_MODE: Final = re.compile(r'mode="?([A-Za-z]+)"?', re.IGNORECASE)
_INFO: Final = re.compile(r"url=\"?([^;\s\"]+)\"?((?:\s*;\s*(?:seq|rtptime)=[0-9]{1,10})*)", re.IGNORECASE)


class Transport(NamedTuple):
    """Media in the connection itself: profile, channels of RTP and RTCP (None: not named), and the sender."""

    profile: str
    channels: tuple[int, int] | None
    ssrc: str | None = None

    def __str__(self) -> str:
        first, second = self.channels or (0, 1)
        return f"{self.profile};unicast;interleaved={first}-{second}" + (f";{self.ssrc}" if self.ssrc else "")


def read(header: str) -> Transport | None:
    """The first of the transports offered that is interleaved, and plays; None: there is none."""
    for offer in header.split(","):
        profile, *parameters = (part.strip() for part in offer.split(";"))
        if not _PROFILE.fullmatch(profile) or any(each.lower() == "multicast" for each in parameters):
            continue
        modes = [found[1] for each in parameters if (found := _MODE.fullmatch(each))]
        if any(mode.upper() != "PLAY" for mode in modes):
            continue
        channels = [found for each in parameters if (found := _INTERLEAVED.fullmatch(each))]
        ssrc = next((each for each in parameters if _SSRC.fullmatch(each)), None)
        if not channels:
            return Transport(profile.upper(), None, ssrc)
        if len(channels) == 1:
            first = int(channels[0][1])
            second = int(channels[0][2] or first + 1)
            if first != second and max(first, second) < CHANNELS:
                return Transport(profile.upper(), (first, second), ssrc)
    return None


def free_channels(wanted: tuple[int, int] | None, taken: Collection[int]) -> tuple[int, int] | None:
    """The channels wanted, when both are free, else the first pair that is; None when there is none."""
    pairs: Iterable[tuple[int, int]] = ((even, even + 1) for even in range(0, CHANNELS, 2))
    if wanted is not None:
        pairs = (wanted, *pairs)
    return next((pair for pair in pairs if not set(pair) & set(taken)), None)


def read_info(header: str) -> list[tuple[str, str]]:
    """``RTP-Info`` as pairs of an address and its parameters (``;seq=1;rtptime=2``)."""
    entries = re.split(r",\s*(?=url=)", header, flags=re.IGNORECASE)
    found = (_INFO.fullmatch(entry.strip()) for entry in entries)
    return [(each[1], re.sub(r"\s", "", each[2])) for each in found if each is not None]
