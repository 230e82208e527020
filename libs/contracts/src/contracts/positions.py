"""The consistency token: a place in one device's stream of events."""

import re
from typing import Annotated, NamedTuple, Self

from pydantic import GetCoreSchemaHandler, GetPydanticSchema
from pydantic_core import CoreSchema, core_schema

_FORM = re.compile(r"^([A-Za-z0-9:._-]{1,64})@(0|[1-9][0-9]{0,17})$")

_BLANK = " \t"
"""What may stand around a value of a header (RFC 9110, 5.6.3); one that is passed on can hold no other."""

POSITION_HEADER = "Latchkey-Position"
"""The HTTP header that carries positions, comma-separated, in requests and in answers."""

MOST_POSITIONS = 100
"""That a request can wait for."""


class Position(NamedTuple):
    """``<device_id>@<version>``: whatever answers with at least this position has seen that event."""

    device_id: str
    version: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one position.

        Raises:
            ValueError: the text has not the form ``<device_id>@<version>``.
        """
        match = _FORM.fullmatch(text.strip(_BLANK))
        if match is None:
            raise ValueError("a position has the form <device_id>@<version>, for example cam-1@7")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.device_id}@{self.version}"


def parse_positions(header: str) -> list[Position]:
    """Read the value of the header `POSITION_HEADER`; raises ValueError as `Position.parse` does."""
    return [Position.parse(part) for part in header.split(",") if part.strip(_BLANK)]


def format_positions(positions: list[Position] | tuple[Position, ...]) -> str:
    """The value of the header `POSITION_HEADER`."""
    return ", ".join(str(position) for position in positions)


def format_answer(positions: list[Position] | tuple[Position, ...]) -> str:
    """The same for an answer: of very many the last `MOST_POSITIONS`.

    No request could wait for more, and whoever reads an answer, or passes it on, bounds its head.
    """
    return format_positions(positions[-MOST_POSITIONS:])


def _position_schema(_source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
    def read(value: object) -> Position:
        return value if isinstance(value, Position) else Position.parse(str(value))

    text = core_schema.str_schema(pattern=_FORM.pattern)
    return core_schema.no_info_plain_validator_function(
        read,
        json_schema_input_schema=text,
        serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=text),
    )


PositionField = Annotated[Position, GetPydanticSchema(_position_schema)]
"""A position inside a model, written as its text."""
