"""What an agent and a gateway say to each other: messages, their bounds, and codes. No input or output.

Both ends speak JSON objects of one line each over TLS. The first line of a connection says what it is for:

| from | message | answer, and what follows |
|---|---|---|
| agent | `Enrol` | ``welcome``, or ``refused``; then the gateway closes |
| agent | `Login` | ``welcome``; then it is the control connection: `Ping` is answered by ``pong``, and the |
|       |         | gateway sends ``open``, ``end``, ``gateways``, and ``refused`` before it closes |
| agent | `Data` | silence until a session needs it; then the gateway sends ``dial``, the agent answers |
|       |        | `Ready` or `Failed`; after `Ready` both directions are payload, byte for byte |

``open`` asks for a data connection with a one-time token. ``end`` tells how many bytes a client sends through
the data connection of a token in all: no library here speaks a half-close of TLS, so the end of what the
client sends travels beside the data. A device that ends its sending closes the data connection.
"""

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contracts.base import Id

PROTOCOL: Final = 1
LINE_BYTES: Final = 4096
"""The longest line that is taken from an agent, its line feed included."""
PING_SECONDS: Final = 20.0
SILENT_SECONDS: Final = 3 * PING_SECONDS
"""Without a word from an agent for so long, it is gone."""

_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # 32 letters and digits, none of which look alike
_SELECTOR, _SECRET = 8, 12
_CODE: Final = re.compile(f"[{_ALPHABET}]{{{_SELECTOR + _SECRET}}}")
_KEY_BYTES: Final = 32


class MalformedError(Exception):
    """What an agent sent is no message, or none that may come here."""


class Refused(StrEnum):
    """Why an agent is turned away. ``REFUSED`` is all that a stranger learns of codes, keys and devices."""

    REFUSED = "REFUSED"
    UNAVAILABLE = "UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED"
    EVICTED = "EVICTED"
    REPLACED = "REPLACED"
    MALFORMED = "MALFORMED"
    UNSUPPORTED_PROTOCOL = "UNSUPPORTED_PROTOCOL"


class _Message(BaseModel):
    """Fields that are not known are ignored, so that an older gateway understands a newer agent."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def _key(text: str) -> str:
    try:
        raw = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None
    if len(raw) != _KEY_BYTES:
        raise ValueError("a key has 256 bits")
    return text


Key = Annotated[str, Field(max_length=64), AfterValidator(_key)]
"""A device's key: 256 random bits in base64url, without padding."""
Instance = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
"""One run of an agent: whoever logs in again from the same run takes over from himself."""
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _Hello(_Message):
    protocol: int
    key: Key
    instance: Instance


class Enrol(_Hello):
    """Exchange a one-time code for the right to log in with this key."""

    type: Literal["enrol"]
    code: Annotated[str, Field(max_length=64)]


class Login(_Hello):
    """Log in as a device."""

    type: Literal["login"]
    device_id: Id


class Data(_Message):
    """A connection that an ``open`` asked for."""

    type: Literal["data"]
    token: Token


class Ping(_Message):
    """The agent lives."""

    type: Literal["ping"]


class Ready(_Message):
    """The service is connected; payload follows."""

    type: Literal["ready"]


class Failed(_Message):
    """The service is not connected; ``reason``: the owner's rules forbid it, or it does not answer."""

    type: Literal["failed"]
    reason: Literal["not_allowed", "unreachable"]


First = Enrol | Login | Data
"""What may stand in the first line of a connection."""
Answer = Ready | Failed
"""What may follow a ``dial``."""

_T = TypeVar("_T")
_FIRST: TypeAdapter[First] = TypeAdapter(Annotated[First, Field(discriminator="type")])
_PING: TypeAdapter[Ping] = TypeAdapter(Ping)
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="type")])


def read_first(line: bytes) -> First:
    """The first line of a connection; raises MalformedError."""
    return _read(_FIRST, line)


def read_ping(line: bytes) -> Ping:
    """A line of a control connection; raises MalformedError."""
    return _read(_PING, line)


def read_answer(line: bytes) -> Answer:
    """The line that answers a ``dial``; raises MalformedError."""
    return _read(_ANSWER, line)


def _read(kind: TypeAdapter[_T], line: bytes) -> _T:
    try:
        return kind.validate_json(line)
    except ValidationError:
        raise MalformedError from None  # its text would repeat codes and keys


class Lines:
    """Cuts a stream into lines. It holds at most one unfinished line, which may not become too long."""

    def __init__(self, most: int = LINE_BYTES) -> None:
        self._most = most
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """More of the stream has come."""
        self._rest += data

    def next(self) -> bytes | None:
        """The next whole line without its line feed; None: more must come.

        Raises:
            MalformedError: it is too long.
        """
        end = self._rest.find(b"\n", 0, self._most)
        if end < 0:
            if len(self._rest) >= self._most:
                raise MalformedError
            return None
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        return line

    def take(self) -> bytes:
        """All that has come after the last line."""
        rest, self._rest = self._rest, b""
        return rest


def _encode(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def welcome(device_id: str, gateway_id: str, gateways: Sequence[str]) -> bytes:
    """The code or the key is right; ``gateways`` (``host:port``) are all that the agent should log in to."""
    return _encode(
        type="welcome",
        device_id=device_id,
        gateway_id=gateway_id,
        gateways=gateways,
        ping_seconds=PING_SECONDS,
    )


def refusal(code: Refused, retry_seconds: float = 0.0) -> bytes:
    """The agent is turned away; ``retry_seconds`` is when it may come again at the earliest."""
    return _encode(type="refused", code=code.value, retry_seconds=round(retry_seconds, 1))


def gateways(addresses: Sequence[str]) -> bytes:
    """There are other gateways than before."""
    return _encode(type="gateways", gateways=addresses)


def open_data(token: str) -> bytes:
    """Dial a data connection with this token."""
    return _encode(type="open", token=token)


def end(token: str, count: int) -> bytes:
    """The client sends ``count`` bytes in all through the data connection of ``token``."""
    return _encode(type="end", token=token, bytes=count)


def pong() -> bytes:
    """The gateway lives."""
    return _encode(type="pong")


def dial(host: str, port: int) -> bytes:
    """Connect this data connection to a service."""
    return _encode(type="dial", host=host, port=port)


def new_token() -> str:
    """A one-time token for a data connection: 192 random bits."""
    return secrets.token_urlsafe(24)


class Code:
    """A one-time code as people type it: eight characters find it, twelve (60 bits) prove it."""

    def __init__(self, text: str) -> None:
        """Read a code, however it is grouped; raises MalformedError."""
        plain = re.sub(r"[\s-]", "", text).upper()
        if not _CODE.fullmatch(plain):
            raise MalformedError
        self.selector = plain[:_SELECTOR]
        self.secret_hash = hashlib.sha256(plain.encode()).digest()
        self.text = "-".join(plain[start : start + 5] for start in range(0, len(plain), 5))

    @classmethod
    def new(cls) -> "Code":
        """A random one."""
        return cls("".join(secrets.choice(_ALPHABET) for _ in range(_SELECTOR + _SECRET)))


def key_hash(key: str) -> bytes:
    """What is kept of a key. A plain hash is enough: nobody can guess 256 random bits."""
    return hashlib.sha256(key.encode()).digest()
