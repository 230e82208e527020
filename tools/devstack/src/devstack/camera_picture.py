"""The demo camera's picture: a few seconds of H.264 that come with us, cut into RTP packets (RFC 6184)."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

RATE: Final = 10
"""Pictures a second."""
CLOCK: Final = 90_000
PAYLOAD_TYPE: Final = 96
CLIPS: Final = 8
"""How many clips there are, each of another shade."""

_MOST_PAYLOAD: Final = 1_200
_START: Final = b"\x00\x00\x01"
_SLICES: Final = (1, 5)


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is repeated without end: the NAL units of each picture, and what a reader needs first."""

    pictures: tuple[tuple[bytes, ...], ...]
    parameters: str
    """For ``a=fmtp`` of its description."""


@cache
def clip(number: int) -> Clip:
    """A bar that wanders over a ground of one shade: that of ``number``, counted around :data:`CLIPS`.

    ``tests/test_camera_clips.py`` makes the files: an encoder here would be larger than all the rest.
    """
    stream = resources.files("devstack").joinpath("clips", f"{number % CLIPS}.h264").read_bytes()
    pictures, begun = list[tuple[bytes, ...]](), list[bytes]()
    for unit in _units(stream):
        begun.append(unit)
        if unit[0] & 31 in _SLICES:  # the files have one for each picture
            pictures.append(tuple(begun))
            begun.clear()
    sets = [next(unit for unit in pictures[0] if unit[0] & 31 == kind) for kind in (7, 8)]
    encoded = ",".join(base64.b64encode(each).decode() for each in sets)
    return Clip(
        tuple(pictures),
        f"packetization-mode=1;profile-level-id={sets[0][1:4].hex()};sprop-parameter-sets={encoded}",
    )


def _units(stream: bytes) -> Iterator[bytes]:
    """The NAL units of a byte stream (H.264, annex B)."""
    for part in stream.split(_START)[1:]:
        unit = part.rstrip(b"\x00")
        if unit:
            yield unit


def packets(picture: tuple[bytes, ...], sequence: int, timestamp: int, source: int) -> Iterator[bytes]:
    """The RTP packets of one picture; the first has this sequence number."""
    payloads = [payload for unit in picture for payload in _payloads(unit)]
    for index, payload in enumerate(payloads):
        marker = 0x80 if index == len(payloads) - 1 else 0
        head = bytes([0x80, marker | PAYLOAD_TYPE]) + (sequence + index & 0xFFFF).to_bytes(2, "big")
        yield head + (timestamp & 0xFFFFFFFF).to_bytes(4, "big") + source.to_bytes(4, "big") + payload


def _payloads(unit: bytes) -> Iterator[bytes]:
    if len(unit) <= _MOST_PAYLOAD:
        yield unit
        return
    kind, indicator = unit[0] & 31, (unit[0] & 0xE0) | 28  # FU-A, section 5.8
    for start in range(1, len(unit), _MOST_PAYLOAD):
        begins = 0x80 if start == 1 else 0
        ends = 0x40 if start + _MOST_PAYLOAD >= len(unit) else 0
        yield bytes([indicator, begins | ends | kind]) + unit[start : start + _MOST_PAYLOAD]
