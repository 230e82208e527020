"""The head of an HTTP/1 request (RFC 9112) at a door: read, bounded, and what a refusal looks like.

No input or output: bytes go in, and a `Head` or an answer comes out.
"""

import json
from base64 import b64decode
from dataclasses import dataclass
from http import HTTPStatus

import h11

from servicekit.http import ApiError
from servicekit.telemetry import CORRELATION_HEADER, correlation_id

# A line each: clients there are look for theirs at the beginning of one.
_CHALLENGES = {
    401: ('WWW-Authenticate: Bearer realm="Latchkey"',),
    407: ('Proxy-Authenticate: Basic realm="Latchkey"', 'Proxy-Authenticate: Bearer realm="Latchkey"'),
}

MOST_BYTES = 16 * 1024
"""What a head may take; a token takes one or two thousand."""


class BadRequestError(ApiError):
    """What came is no request that is understood here."""

    def __init__(self, why: str, status: int = 400, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__("INVALID_REQUEST", status, why, headers=named)


@dataclass(frozen=True, slots=True)
class Head:
    """One request. Names of ``headers`` are in small letters; ``raw`` is what h11 makes of them."""

    method: str
    target: str
    http_version: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for each, value in self.headers if each == name]

    def one(self, name: str) -> str:
        """The value of a header that may come once; empty when it does not come.

        Raises:
            BadRequestError: it comes more than once.
        """
        values = self.all(name)
        if len(values) > 1:
            raise BadRequestError(f"The header {name} must come once.")
        return values[0] if values else ""

    def has(self, name: str, token: str) -> bool:
        """Whether a header that is a list (RFC 9110, section 5.6.1) has this token, in any case."""
        return any(token == part.strip().lower() for value in self.all(name) for part in value.split(","))


class HeadReader:
    """Takes bytes until a head is whole."""

    def __init__(self) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_BYTES)
        self._received = 0

    def feed(self, data: bytes) -> Head | None:
        """The head, once it is whole; ``data`` empty: nothing more comes.

        Raises:
            BadRequestError: this is not HTTP/1, or longer than it may be.
        """
        try:
            self._received += len(data)
            self._parser.receive_data(data)
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                raise _too_long() from None
            raise BadRequestError("This is no HTTP/1.1 request.") from None
        if not isinstance(event, h11.Request):
            return None
        if self._received - len(self.rest) > MOST_BYTES:  # the parser minds it only of a head in pieces
            raise _too_long()
        if event.http_version not in {b"1.0", b"1.1"}:
            raise BadRequestError("This is no HTTP/1.1 request.", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        return Head(
            method=event.method.decode("ascii"),
            target=event.target.decode("ascii"),
            http_version=event.http_version.decode("ascii"),
            headers=tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers),
        )

    @property
    def rest(self) -> bytes:
        """What came after the head."""
        return bytes(self._parser.trailing_data[0])


def _too_long() -> BadRequestError:
    return BadRequestError(f"A head may take {MOST_BYTES} bytes.", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def token_of(credentials: str) -> str:
    """The token of a header of credentials: ``Bearer <token>`` (RFC 6750), or ``Basic`` (RFC 7617) with the
    token as its password; the user's name is not looked at. Empty when there is none.
    """
    scheme, _, value = credentials.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            return b64decode(value, validate=True).decode("utf-8").partition(":")[2].strip()
        except ValueError:  # of the encodings, both
            return ""
    return ""


def answer(error: ApiError) -> bytes:
    """A whole response that refuses and ends the connection; the body is that of every HTTP API of ours."""
    body = json.dumps({"error": {"code": error.code, "message": error.message}}).encode() + b"\n"
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        *(f"{name}: {value}" for name, value in error.headers.items()),
        *_CHALLENGES.get(error.status, ()),
        f"{CORRELATION_HEADER}: {correlation_id()}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
