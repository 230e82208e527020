"""Bytes on Kafka: CloudEvents 1.0 in structured JSON mode (https://github.com/cloudevents/spec, JSON format).

``type`` is ``latchkey.<name>.v<version>``; one model per type and version, and one example of each in
``golden/`` that is decoded for ever.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import ErrorDetails, from_json, to_json

from contracts import commands, directory, events, watermarks
from contracts.base import new_id, new_id_text

MAX_BYTES: Final = 1_000_000
"""Larger messages are refused before they are parsed."""

Message = (
    events.AnyShareEvent
    | events.AnyAccessEvent
    | events.GatewayStarted
    | commands.AnyCommand
    | commands.AnyCommandResult
    | directory.AnyDirectorySnapshot
    | watermarks.Watermark
)

_MODELS: Final[tuple[type[Message], ...]] = (
    *events.SHARE_EVENT_TYPES,
    events.ConnectionOpened,
    events.ConnectionRefused,
    events.ConnectionClosed,
    events.ConnectionCut,
    events.GatewayStarted,
    *commands.COMMAND_TYPES,
    commands.CommandAccepted,
    commands.CommandRefused,
    directory.DeviceSnapshot,
    directory.AccountSnapshot,
    directory.ContactSnapshot,
    directory.PresenceSnapshot,
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


class Envelope(_Attributes):
    """A message with its CloudEvents attributes.

    ``id`` is a UUIDv7 for what we publish. ``version`` is the place in the device's stream (share events
    only); ``subject`` the device, account or contact; ``correlationid`` follows one request through all
    services; ``causationid`` is the id of the command or event that led to this one.
    """

    data: Message


def _envelope_of(name: str, model: type[Message]) -> type[Envelope]:
    fields: dict[str, Any] = {"type": (Literal[name], name), "data": (model, ...)}
    return create_model(model.__name__, __base__=Envelope, **fields)


_annotated: Any = Annotated  # what they hold is computed, which no type checker follows
_union: Any = Union
_ANY: Final[TypeAdapter[Envelope]] = TypeAdapter(
    _annotated[
        _union[tuple(_envelope_of(name, model) for name, model in TYPES.items())],
        Field(discriminator="type"),
    ]
)
"""Every message with the one kind of data that its type has, so that all is read in one pass."""

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
        id=new_id_text(),
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


def encoded(
    data: Message, *, source: str, time: datetime, subject: str | None, correlationid: str | None
) -> bytes:
    """The bytes of a new message, as `encode` makes them of an `envelope`, for who makes very many.

    Nothing is checked but ``data``, which is a model: the caller answers for the attributes.
    """
    message: dict[str, object] = {
        "specversion": "1.0",
        "id": new_id(),
        "type": _NAMES[type(data)],
        "source": source,
    }
    if subject is not None:
        message["subject"] = subject
    message["time"] = time
    message["datacontenttype"] = "application/json"
    if correlationid is not None:
        message["correlationid"] = correlationid
    message["data"] = data
    return to_json(message, exclude_none=True)


def mold(
    data: Message,
    *,
    source: str,
    subject: str | None,
    correlationid: str | None,
    texts: Collection[str] = (),
    numbers: Collection[str] = (),
) -> str:
    """What `encoded` makes of messages that differ in a few fields, as a format for ``%`` with a mapping.

    Its keys are ``id``, ``time`` and the fields of ``data`` that are named. ``texts`` are filled in as they
    are, between quotes: ids and times, nothing that JSON would have to escape.
    """
    holes = {name: f"<{name} here>" for name in ("id", "time", *texts, *numbers)}
    fields: dict[str, Any] = data.model_dump(mode="json")
    message = {
        "specversion": "1.0",
        "id": holes["id"],
        "type": _NAMES[type(data)],
        "source": source,
        "subject": subject,
        "time": holes["time"],
        "datacontenttype": "application/json",
        "correlationid": correlationid,
        "data": {name: holes[name] if name in texts or name in numbers else fields[name] for name in fields},
    }
    text = to_json(message, exclude_none=True).decode().replace("%", "%%")
    for name, hole in holes.items():
        text = text.replace(f'"{hole}"', f"%({name})s" if name in numbers else f'"%({name})s"')
    return text


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
        message = _ANY.validate_json(value)
    except ValidationError as error:
        raise _explained(error, value) from None
    if rb"\u0000" in value and _holds_nul(from_json(value)):
        raise DecodeError(
            "INVALID_DATA", f"{message.type}: a text holds the character U+0000, which none may."
        )
    return message


def _explained(error: ValidationError, value: bytes) -> DecodeError:
    """Which of the codes it is, and what is wrong."""
    kinds = {item["type"] for item in error.errors(include_url=False, include_input=False)}
    if "union_tag_invalid" in kinds:
        try:
            _Attributes.model_validate_json(value)
        except ValidationError as attributes:
            error = attributes
        else:
            return DecodeError("UNKNOWN_TYPE", "The CloudEvents type is not one of ours.")
    about_data = [item for item in error.errors(include_url=False) if _is_about_data(item)]
    if len(about_data) < error.error_count():
        return DecodeError("MALFORMED", f"Not a CloudEvent in JSON: {explain(error)}")
    return DecodeError("INVALID_DATA", f"{about_data[0]['loc'][0]}: {explain(error)}")


def _is_about_data(item: ErrorDetails) -> bool:
    """Whether it is in the data, and the data is there."""
    _, *path = item["loc"] or ("",)
    return len(path) > 1 or (path == ["data"] and item["type"] not in {"missing", "model_type"})


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
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(message.data) not in allowed:  # no model has subclasses, and isinstance is slow on models
        raise DecodeError("UNEXPECTED_TYPE", f"{message.type} does not belong on this topic.")
    return message, cast("_M", message.data)


def explain(error: ValidationError) -> str:
    """What is wrong, field by field, without any value of the input."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'] if part not in TYPES) or 'value'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )
