"""What a camera has described at one of its addresses."""

from typing import NamedTuple

from access_gateway.protocols.rtsp import sdp
from access_gateway.protocols.rtsp.addresses import path_of, resolve
from access_gateway.protocols.rtsp.messages import Response
from access_gateway.protocols.rtsp.sessions import Medium


class Presentation(NamedTuple):
    """The description, the path that controls all of it, and each medium."""

    description: sdp.Description
    aggregate: str
    media: tuple[Medium, ...]


def read(answer: Response, path: str) -> Presentation | None:
    """Read a camera's answer to DESCRIBE of this path; None: it cannot be used.

    What is relative in it belongs to Content-Base, else Content-Location, else the path asked for (RFC 2326,
    section C.1.1).
    """
    kind = ",".join(answer.all("content-type")).lower()
    if "application/sdp" not in kind:
        return None
    try:
        description = sdp.read(answer.body)
    except sdp.UnreadableError:
        return None
    named = [path_of(url) for name in ("content-base", "content-location") for url in answer.all(name)]
    base = next((each for each in named if each is not None), path)
    aggregate = resolve(base, description.control)
    media = tuple(Medium(resolve(base, medium.control), medium.direction) for medium in description.media)
    return Presentation(description, aggregate, media) if aggregate is not None and media else None
