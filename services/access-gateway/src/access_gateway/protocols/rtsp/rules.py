"""What of a request can be judged by itself, before anybody is known: versions, methods, options, headers."""

import re
from typing import Final, NamedTuple

from access_gateway.protocols.rtsp.messages import VERSION, Headers, RepeatedError, Request, Response

METHODS: Final = (
    "OPTIONS",
    "DESCRIBE",
    "SETUP",
    "PLAY",
    "PAUSE",
    "TEARDOWN",
    "GET_PARAMETER",
    "SET_PARAMETER",
)
"""What a person may ask for. ANNOUNCE and RECORD would send to the camera what it has no function for."""

REPLAY: Final = "onvif-replay"
BACKCHANNEL: Final = "www.onvif.org/ver20/backchannel"

_REFUSED: Final = frozenset({"ANNOUNCE", "RECORD", "REDIRECT"})
_SINGLE: Final = ("session", "transport", "range", "authorization", "content-type", "accept", *(
    ["scale", "speed", "rate-control", "frames", "immediate"]
))  # fmt: skip
_CSEQ: Final = re.compile(r"[0-9]{1,10}")
_CODES: Final = {
    400: "INVALID_REQUEST",
    403: "FUNCTION_NOT_GRANTED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    451: "PARAMETER_NOT_UNDERSTOOD",
    453: "TOO_MANY_SESSIONS",
    454: "SESSION_NOT_FOUND",
    455: "METHOD_NOT_VALID_NOW",
    457: "INVALID_RANGE",
    461: "UNSUPPORTED_TRANSPORT",
    501: "METHOD_NOT_IMPLEMENTED",
    502: "CAMERA_FAILED",
    503: "UNAVAILABLE",
    504: "CAMERA_FAILED",
    505: "VERSION_NOT_SUPPORTED",
    551: "OPTION_NOT_SUPPORTED",
}
CODE_HEADER: Final = "latchkey-code"


class Options(NamedTuple):
    """Which of the features that a request requires it has."""

    replay: bool
    backchannel: bool


class NotDoneError(Exception):
    """A request is not done; ``answer`` tells so. ``code`` when the status alone does not tell why."""

    def __init__(self, status: int, code: str | None = None, headers: Headers = ()) -> None:
        super().__init__(status)
        self.answer = Response(((CODE_HEADER, code or _CODES[status]), *headers), status=status)


def options(request: Request) -> Options:
    """What it requires; every feature is one of those that `screen` lets pass."""
    tags = _required(request)
    return Options(REPLAY in tags, BACKCHANNEL in tags)


def _required(request: Request) -> list[str]:
    values = [*request.all("require"), *request.all("proxy-require")]
    return [tag.strip().lower() for value in values for tag in value.split(",") if tag.strip()]


def screen(request: Request) -> None:
    """Refuse what nobody may ask for, or nobody could understand.

    Raises:
        NotDoneError: see there.
    """
    try:
        sequence = request.one("cseq")
        for name in _SINGLE:
            request.one(name)
    except RepeatedError:
        raise NotDoneError(400) from None
    if sequence is None or not _CSEQ.fullmatch(sequence):
        raise NotDoneError(400)
    if request.version != VERSION:
        raise NotDoneError(505, headers=(("supported-version", VERSION),))
    if request.method not in METHODS:
        if request.method in _REFUSED:
            raise NotDoneError(405, headers=(("allow", ", ".join(METHODS)),))
        raise NotDoneError(501)
    unknown = [tag for tag in _required(request) if tag not in {REPLAY, BACKCHANNEL}]
    if unknown:
        raise NotDoneError(551, headers=(("unsupported", ", ".join(unknown)),))
    if request.body:
        # A parameter could be anything that the camera's maker has thought of.
        raise NotDoneError(451 if request.method.endswith("_PARAMETER") else 400)
