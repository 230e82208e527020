"""RTSP messages and interleaved frames (RFC 2326), read from bytes and written to bytes.

Nothing that is read is sent on as it came: whoever forwards a message makes a new one from fields that he
understands. Frames are the exception: their bytes go on as they are, if their channel's gate is open.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

VERSION: Final = "RTSP/1.0"

MOST_HEAD_BYTES: Final = 16_384
"""Of a request or status line and the headers after it."""
MOST_HEADERS: Final = 64
MOST_BODY_BYTES: Final = 65_536

CLOSED: Final = 0
OPEN: Final = 1
REPORTS_ONLY: Final = 2
"""Gates of a channel: nothing passes, everything, or only RTCP reports and feedback (RFC 3550, RFC 4585)."""

_DOLLAR: Final = 0x24
_FRAME_HEAD: Final = 4
_LINE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,4096}) (RTSP/[0-9]\.[0-9])"
)
_STATUS_LINE: Final = re.compile(r"RTSP/1\.0 ([1-5][0-9]{2})(?: .*)?")
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
# Sender and receiver reports, descriptions, goodbye, and feedback. Not 204 (APP): it could mean anything.
_REPORTS: Final = frozenset({200, 201, 202, 203, 205, 206})

_REASONS: Final = {
    **{status.value: status.phrase for status in HTTPStatus},
    451: "Parameter Not Understood",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    457: "Invalid Range",
    459: "Aggregate Operation Not Allowed",
    460: "Only Aggregate Operation Allowed",
    461: "Unsupported Transport",
    505: "RTSP Version Not Supported",
    551: "Option Not Supported",
}
"""Those that HTTP has not, or means otherwise, stand here (RFC 2326, section 7.1.1)."""

Headers = tuple[tuple[str, str], ...]
"""Names in small letters, and values without the space around them, in the order in which they came."""


class MalformedError(Exception):
    """The bytes are no RTSP: where the next message begins cannot be known any more."""


class RepeatedError(Exception):
    """A header that may stand once stands twice: which of both counts would be a guess."""


@dataclass(frozen=True, slots=True)
class _Message:
    headers: Headers = ()
    body: bytes = b""

    def one(self, name: str) -> str | None:
        """The value of a header that may stand once; None when it is absent.

        Raises:
            RepeatedError: see there.
        """
        found = self.all(name)
        if len(found) > 1:
            raise RepeatedError(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Request(_Message):
    """A request; ``uri`` is any text without a space. ``version`` may be one that we do not speak."""

    method: str = field(kw_only=True)
    uri: str = field(kw_only=True)
    version: str = field(default=VERSION, kw_only=True)

    def encode(self) -> bytes:
        """As it is sent."""
        return _encode(f"{self.method} {self.uri} {self.version}", self)


@dataclass(frozen=True, slots=True)
class Response(_Message):
    """An answer."""

    status: int = field(kw_only=True)

    def encode(self) -> bytes:
        """As it is sent; the reason phrase is the one that the RFC gives the status."""
        return _encode(f"{VERSION} {self.status} {_reason(self.status)}", self)


def _reason(status: int) -> str:
    return _REASONS.get(status, "Status")


def _encode(first: str, message: _Message) -> bytes:
    lines = [first, *(f"{_spelled(name)}: {value}" for name, value in message.headers)]
    if message.body:
        lines.append(f"Content-Length: {len(message.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + message.body


def _spelled(name: str) -> str:
    special = {"cseq": "CSeq", "rtp-info": "RTP-Info", "www-authenticate": "WWW-Authenticate"}
    return special.get(name) or "-".join(part.capitalize() for part in name.split("-"))


def is_report(packet: bytes) -> bool:
    """Whether a packet is RTCP that only reports: every part of it of a kind that is known to do no more."""
    position = 0
    while position < len(packet):
        if position + 4 > len(packet) or packet[position] >> 6 != 2 or packet[position + 1] not in _REPORTS:
            return False
        position += 4 * (1 + int.from_bytes(packet[position + 2 : position + 4], "big"))
    return bool(packet) and position == len(packet)


class Reader:
    """Splits what one side sends into messages, and runs of frames that may be passed on.

    ``gates`` has a gate for each of the 256 channels; whoever owns it may change it at any time, also between
    two items of one `feed`. Frames whose gate is closed are left out and counted. What is kept between two
    calls is bounded: less than one message, or one frame.
    """

    def __init__(self, gates: bytearray) -> None:
        self.gates = gates
        self._kept = bytearray()
        self._need = 0
        self.dropped_frames = 0
        self.dropped_bytes = 0

    @property
    def kept(self) -> int:
        """How many bytes have come of a message or frame that is not whole."""
        return len(self._kept)

    def feed(self, data: bytes) -> Generator[Request | Response | bytes]:
        """What has become whole with ``data``: messages, and bytes of whole frames in a row.

        The generator must be read to its end before the next call. After an error nothing more can be read.

        Raises:
            MalformedError: see there.
        """
        if self._kept:
            self._kept += data
            if len(self._kept) < self._need:
                return
            data = bytes(self._kept)
            self._kept.clear()
        position, end = 0, len(data)
        while position < end:
            first = data[position]
            if first == _DOLLAR:
                start = position
                position, run, need = self._frames(data, position)
                if run > start:
                    yield data[start:run]
                if need:
                    self._need = need
                    break
            elif first in b"\r\n":
                position += 1  # RFC 2326, section 4.1: empty lines before a message mean nothing
            else:
                message, after = self._message(data, position)
                if message is None:
                    self._need = after - position
                    break
                position = after
                yield message
        self._kept += data[position:]

    def _frames(self, data: bytes, position: int) -> tuple[int, int, int]:
        """Walk over frames that may pass: where to go on, where those end, and how much the next one needs.

        It stops before what is no whole frame, and after one frame that may not pass.
        """
        gates, end = self.gates, len(data)
        while position < end and data[position] == _DOLLAR:
            if position + _FRAME_HEAD > end:
                return position, position, _FRAME_HEAD
            after = position + _FRAME_HEAD + (data[position + 2] << 8 | data[position + 3])
            if after > end:
                return position, position, after - position
            gate = gates[data[position + 1]]
            if gate != OPEN and (gate == CLOSED or not is_report(data[position + _FRAME_HEAD : after])):
                self.dropped_frames += 1
                self.dropped_bytes += after - position
                return after, position, 0
            position = after
        return position, position, 0

    def _message(self, data: bytes, start: int) -> tuple[Request | Response | None, int]:
        """A message and where it ends; without one, up to where more bytes are needed."""
        blank = data.find(b"\r\n\r\n", start, start + MOST_HEAD_BYTES)
        if blank < 0:
            if len(data) - start >= MOST_HEAD_BYTES:
                raise MalformedError("the head of a message is too long")
            return None, len(data) + 1
        head, after = data[start:blank], blank + 4
        message = _read_head(head)
        length = _content_length(message)
        if after + length > len(data):
            return None, after + length
        if length:
            body = data[after : after + length]
            message = (
                Request(
                    message.headers, body, method=message.method, uri=message.uri, version=message.version
                )
                if isinstance(message, Request)
                else Response(message.headers, body, status=message.status)
            )
        return message, after + length


def _read_head(head: bytes) -> Request | Response:
    first, *rest = head.split(b"\r\n")
    if len(rest) > MOST_HEADERS:
        raise MalformedError("too many headers")
    if not all(_LINE.fullmatch(line) for line in (first, *rest)):
        raise MalformedError("a control character stands in a line")
    headers = tuple(_read_header(line.decode("latin-1")) for line in rest)
    line = first.decode("latin-1")
    if line.startswith("RTSP/"):
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise MalformedError("the status line cannot be read")
        return Response(headers, status=int(found[1]))
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise MalformedError("the request line cannot be read")
    return Request(headers, method=found[1], uri=found[2], version=found[3])


def _read_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    # No space before the colon, and no folded line: a proxy and a camera could read them as two things.
    if not colon or not _TOKEN.fullmatch(name):
        raise MalformedError("a header cannot be read")
    return name.lower(), value.strip(" \t")


def _content_length(message: _Message) -> int:
    if message.all("transfer-encoding"):
        raise MalformedError("a body in pieces is not RTSP")
    values = message.all("content-length")
    if not values:
        return 0
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise MalformedError("the length of a body cannot be read")
    if int(values[0]) > MOST_BODY_BYTES:
        raise MalformedError("a body is too long")
    return int(values[0])
