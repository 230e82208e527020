"""The demo camera's picture: a few seconds of H.264, made once, and cut into RTP packets (RFC 6184)."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, SupportsBytes

import av
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

RATE: Final = 10
"""Pictures a second."""
CLOCK: Final = 90_000
PAYLOAD_TYPE: Final = 96

_WIDTH, _HEIGHT = 320, 240
_SECONDS: Final = 3
_MOST_PAYLOAD: Final = 1_200
_START: Final = b"\x00\x00\x01"


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is repeated without end: the NAL units of each picture, and what a reader needs first."""

    pictures: tuple[tuple[bytes, ...], ...]
    parameters: str
    """For ``a=fmtp`` of its description."""


def make(shade: int) -> Clip:
    """A bar that wanders over a ground of one shade (0 to 255): each camera looks another way."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
    codec.framerate, codec.gop_size, codec.max_b_frames = Fraction(RATE), RATE, 0
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    frames = [*(_picture(shade, number) for number in range(_SECONDS * RATE)), None]
    pictures = [tuple(_units(data)) for frame in frames for data in _encoded(codec, frame)]
    units = [unit for picture in pictures for unit in picture]
    sets = [next(unit for unit in units if unit[0] & 31 == kind) for kind in (7, 8)]
    encoded = ",".join(base64.b64encode(each).decode() for each in sets)
    return Clip(
        tuple(pictures),
        f"packetization-mode=1;profile-level-id={sets[0][1:4].hex()};sprop-parameter-sets={encoded}",
    )


def _encoded(codec: VideoCodecContext, frame: VideoFrame | None) -> list[bytes]:
    encode: Callable[[VideoFrame | None], list[SupportsBytes]] = codec.encode  # pyright: ignore
    return [bytes(packet) for packet in encode(frame)]


def _picture(shade: int, number: int) -> VideoFrame:
    frame = VideoFrame(_WIDTH, _HEIGHT, "yuv420p")
    bar = number * _WIDTH // (_SECONDS * RATE)
    for index, plane in enumerate(frame.planes):
        line = bytearray([shade if index == 0 else 128] * plane.line_size)
        if index == 0:
            line[bar : bar + 24] = bytes([255 - shade] * len(line[bar : bar + 24]))
        plane.update(bytes(line) * plane.height)
    frame.pts = number
    return frame


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
