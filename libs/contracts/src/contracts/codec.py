"""Bytes on Kafka: CloudEvents 1.0 in structured JSON mode (https://github.com/cloudevents/spec, JSON format).

``type`` is ``latchkey.<name>.v<version>``; one model per type and version, and one example of each in
``golden/`` that is decoded for ever.
"""

from typing import Any, Final, Literal, TypeVar, cast

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from contracts import commands, directory, events, watermarks
from contracts.base import new_id

MAX_BYTES: Final = 1_000_000
"""Larger messages are refused before they are parsed."""

Message = (
    events.AnyShareEvent
    | events.AnyAccessEvent
    | commands.AnyCommand
    | commands.AnyCommandResult
    | directory.AnyDirectorySnapshot
    | watermarks.Watermark
)

_MODELS: Final[tuple[type[Message], ...]] = (
    events.ShareRequested,
    events.ShareAccepted,
    events.ShareRejected,
    events.ShareChanged,
    events.ShareRevoked,
    events.ShareLeft,
    events.ConnectionOpened,
    events.ConnectionRefused,
    events.ConnectionClosed,
    events.ConnectionCut,
    commands.RequestShare,
    commands.AcceptShare,
    commands.RejectShare,
    commands.RevokeShare,
    commands.LeaveShare,
    commands.CommandAccepted,
    commands.CommandRefused,
    directory.DeviceSnapshot,
    directory.AccountSnapshot,
    directory.ContactSnapshot,
    watermarks.Watermark,
)

TYPES: Final[dict[str, type[Message]]] = {f"latchkey.{model.__name__}.v1": model for model in _MODELS}
_NAMES: Final[dict[type[Message], str]] = {model: name for name, model in TYPES.items()}


class DecodeError(ValueError):
    """Bytes that are not a message of ours.

    ``code`` is stable: ``TOO_LARGE``, ``MALFORMED`` (not JSON, or not a CloudEvent), ``UNKNOWN_TYPE``,
    ``INVALID_DATA``, ``UNEXPECTED_TYPE``. The message repeats no value of the input, which may be private.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Attributes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=128)
    type: str
    source: str = Field(min_length=1)
    subject: str | None = None
    time: AwareDatetime
    datacontenttype: str = "application/json"
    version: int | None = Field(default=None, ge=1)
    correlationid: str | None = Field(default=None, max_length=128)
    causationid: str | None = Field(default=None, max_length=128)
    traceparent: str | None = Field(default=None, max_length=128)


class _Raw(_Attributes):
    data: dict[str, Any]


class Envelope(_Attributes):
    """A message with its CloudEvents attributes.

    ``id`` is a UUIDv7 for what we publish. ``version`` is the place in the device's stream (share events
    only); ``subject`` the device, account or contact; ``correlationid`` follows one request through all
    services; ``causationid`` is the id of the command or event that led to this one.
    """

    data: Message


_M = TypeVar("_M")


def envelope(  # a factory, because the type's name follows from the data
    data: Message,
    *,
    source: str,
    time: AwareDatetime,
    subject: str | None = None,
    version: int | None = None,
    correlationid: str | None = None,
    causationid: str | None = None,
    traceparent: str | None = None,
) -> Envelope:
    """Wrap ``data`` as a new message of the service ``source``."""
    return Envelope(
        id=str(new_id()),
        type=type_name(type(data)),
        source=source,
        subject=subject,
        time=time,
        version=version,
        correlationid=correlationid,
        causationid=causationid,
        traceparent=traceparent,
        data=data,
    )


def type_name(model: type[Message]) -> str:
    """The CloudEvents ``type`` of a model."""
    return _NAMES[model]


def encode(message: Envelope) -> bytes:
    """The bytes that are published."""
    return message.model_dump_json(exclude_none=True).encode()


def decode(value: bytes | None) -> Envelope:
    """Read a message.

    Raises:
        DecodeError: see there; also for a null value (``MALFORMED``).
    """
    if value is None:
        raise DecodeError("MALFORMED", "The message has no value.")
    if len(value) > MAX_BYTES:
        raise DecodeError("TOO_LARGE", f"The message has {len(value)} bytes; at most {MAX_BYTES} are read.")
    try:
        raw = _Raw.model_validate_json(value)
    except ValidationError as error:
        raise DecodeError("MALFORMED", f"Not a CloudEvent in JSON: {explain(error)}") from None
    if rb"\u0000" in value and _holds_nul(raw.model_dump()):
        raise DecodeError("INVALID_DATA", f"{raw.type}: a text holds the character U+0000, which none may.")
    model = TYPES.get(raw.type)
    if model is None:
        raise DecodeError("UNKNOWN_TYPE", "The CloudEvents type is not one of ours.")
    try:
        data = model.model_validate(raw.data)
    except ValidationError as error:
        raise DecodeError("INVALID_DATA", f"{raw.type}: {explain(error)}") from None
    return Envelope.model_validate({**raw.model_dump(exclude={"data"}), "data": data})


def _holds_nul(value: object) -> bool:
    """Whether a JSON value holds U+0000, which PostgreSQL cannot store in text."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(item) for pair in cast("dict[str, object]", value).items() for item in pair)
    return isinstance(value, list) and any(_holds_nul(item) for item in cast("list[object]", value))


def decode_as(value: bytes | None, kinds: type[_M] | tuple[type[_M], ...]) -> tuple[Envelope, _M]:
    """Read a message that must be one of ``kinds``; raises as `decode`, or ``UNEXPECTED_TYPE``."""
    message = decode(value)
    if not isinstance(message.data, kinds):
        raise DecodeError("UNEXPECTED_TYPE", f"{message.type} does not belong on this topic.")
    return message, message.data


def explain(error: ValidationError) -> str:
    """What is wrong, field by field, without any value of the input."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )
