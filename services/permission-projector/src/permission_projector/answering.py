"""How the read API answers: parameters that many lists have, tags, and what is not found."""

from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from contracts.base import Id
from contracts.positions import POSITION_HEADER
from permission_projector.errors import DeviceNotFoundError
from permission_projector.reader import Body

_MOST_HEADER_BYTES = 4096
_DEVICE = TypeAdapter[str](Id)
_UNSTORED: Final = {"Cache-Control": "private, no-cache"}

_T = TypeVar("_T")
Caller = Callable[..., Awaitable[str]]
"""The dependency that tells whom a request is for, once what he wants to see is applied."""
Size = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=4000, description="`next` of the page before.")]

TAGGED: Final[Mapping[int | str, dict[str, Any]]] = {
    304: {"description": "Nothing has changed since the answer with the ETag of If-None-Match."}
}


def known_device(device_id: str) -> str:
    """The id, when a device can have it; what cannot be one is as unknown as any other."""
    try:
        return _DEVICE.validate_python(device_id)
    except ValidationError:
        raise DeviceNotFoundError(device_id) from None


def found(told: _T | None, device_id: str) -> _T:
    """What is told of a device; None: that there is none for the caller."""
    if told is None:
        raise DeviceNotFoundError(device_id)
    return told


def answer(request: Request, body: Body) -> Response:
    """The answer with its tag, or 304 for who has it already.

    The tag is made of all that is told, positions included: answers with one tag are the same, whatever
    happened in between.
    """
    digest = blake2b(body.json, digest_size=12, person=b"read-api")
    digest.update(body.positions.encode())
    tag = f'W/"{digest.hexdigest()}"'
    headers = {**_UNSTORED, "ETag": tag}
    if body.positions and len(body.positions) <= _MOST_HEADER_BYTES:
        headers[POSITION_HEADER] = body.positions
    known = request.headers.get("If-None-Match", "")
    if known.strip() == "*" or tag in (part.strip() for part in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(body.json, media_type="application/json", headers=headers)


def answered(request: Request, told: BaseModel) -> Response:
    """The same of what has no positions: what is told of the past, and of the caller himself."""
    return answer(request, Body(told.model_dump_json().encode(), ""))
