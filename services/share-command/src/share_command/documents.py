"""The published descriptions of what share-command takes and gives: OpenAPI (HTTP) and AsyncAPI (Kafka).

Made from what runs: the routes, and the models of ``contracts``. ``share-command openapi`` and
``share-command asyncapi`` print them; they stand in ``docs/openapi`` and ``docs/asyncapi``.
"""

import json
from typing import Annotated, Any, Final, Literal, Union, cast

from fastapi import Request
from faststream.kafka import KafkaBroker
from faststream.specification.asyncapi import AsyncAPI
from pydantic import Field, SecretStr, create_model

from contracts import codec
from contracts.commands import COMMAND_TYPES, CommandAccepted, CommandRefused
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import SHARE_EVENT_TYPES
from contracts.topics import (
    COMMAND_RESULTS,
    DIRECTORY_ACCOUNTS,
    DIRECTORY_CONTACTS,
    DIRECTORY_DEVICES,
    SHARE_COMMANDS,
    SHARE_EVENTS,
    WATERMARKS,
    Topic,
)
from contracts.watermarks import Watermark
from servicekit.http import create_app
from share_command import http
from share_command.handlers import Handlers
from share_command.settings import Settings
from share_command.store import SOURCE

_READ: Final[tuple[tuple[Topic, tuple[type[codec.Message], ...], str], ...]] = (
    (
        SHARE_COMMANDS,
        COMMAND_TYPES,
        "Commands of trusted upstream services. Key: the device id, else the account id of the actor. The "
        "right to write here is authority to name any actor.",
    ),
    (DIRECTORY_DEVICES, (DeviceSnapshot,), "Devices. Key: the device id. A null value deletes."),
    (DIRECTORY_ACCOUNTS, (AccountSnapshot,), "Accounts. Key: the account id. A null value deletes."),
)
_WRITTEN: Final[tuple[tuple[Topic, tuple[type[codec.Message], ...], str], ...]] = (
    (
        COMMAND_RESULTS,
        (CommandAccepted, CommandRefused),
        "The answer to each command. Key: as the command's.",
    ),
    (
        SHARE_EVENTS,
        SHARE_EVENT_TYPES,
        "What happened to shares, for ever; at least once, in order for each device. Key: the device id.",
    ),
    (DIRECTORY_CONTACTS, (ContactSnapshot,), "The address behind each contact id. Key: the contact id."),
    (WATERMARKS, (Watermark,), "Each second, how far the topics are complete."),
)


def openapi() -> str:
    """The OpenAPI document of the HTTP API, as JSON with sorted keys."""
    app = create_app(SOURCE, {})
    http.add_routes(
        app,
        handlers=cast("Handlers", None),  # the routes are described, none is served
        caller=_nobody,
        settings=Settings.model_construct(
            link_secret=SecretStr(""), commands_per_minute=1, contact_code_minutes=1
        ),
    )
    return _text(app.openapi())


def _nobody(request: Request) -> str:
    raise NotImplementedError(f"{request.url.path} is described, not served")


def asyncapi() -> str:
    """The AsyncAPI document of the topics that are read and written, as JSON with sorted keys."""
    broker = KafkaBroker(logger=None)
    for topic, kinds, about in _READ:

        async def read(message: Any) -> None:
            """Described, never called."""

        read.__annotations__["message"] = _values(kinds)
        broker.subscriber(topic.name, title=topic.name, description=about)(read)
    for topic, kinds, about in _WRITTEN:
        broker.publisher(topic.name, title=topic.name, description=about, schema=_values(kinds))
    written = AsyncAPI(
        broker,
        title=SOURCE,
        version=http.VERSION,
        description="Values are CloudEvents 1.0 in structured JSON mode, at most 1,000,000 bytes. Records "
        "are partitioned by the murmur2 hash of their key. Installations may put a prefix before addresses.",
    ).to_specification()
    document: dict[str, Any] = json.loads(written.to_json())
    del document["servers"]  # which they are is for each installation to say
    for topic, _, _ in (*_READ, *_WRITTEN):
        channel = document["channels"][topic.name]
        del channel["servers"]
        channel["bindings"]["kafka"]["partitions"] = topic.partitions
    for message in document["components"]["messages"].values():
        message["correlationId"] = {"location": "$message.payload#/correlationid"}
        message["contentType"] = "application/cloudevents+json"
    return _text(document)


def _values(kinds: tuple[type[codec.Message], ...]) -> Any:
    """What may stand on a topic, told apart by the CloudEvents ``type``."""
    models = tuple(_value(kind) for kind in kinds)
    return models[0] if len(models) == 1 else Annotated[Union[models], Field(discriminator="type")]  # noqa: UP007 - made of a tuple


def _value(kind: type[codec.Message]) -> type[codec.Envelope]:
    fields: dict[str, Any] = {"type": (Literal[codec.type_name(kind)], ...), "data": (kind, ...)}  # pyright: ignore[reportInvalidTypeForm] - a type made of a value
    return create_model(f"{kind.__name__}Value", __base__=codec.Envelope, __doc__=kind.__doc__, **fields)


def _text(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
