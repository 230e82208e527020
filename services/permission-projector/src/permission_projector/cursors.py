"""Where a page ended, as a text that only this API reads: the values by which its list is ordered. Pure."""

import base64
import binascii
import json
from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from permission_projector.errors import InvalidCursorError

_T = TypeVar("_T")


def encode(*values: object) -> str:
    """The cursor of the entry that has these values."""
    text = json.dumps([_plain(value) for value in values], ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, kind: TypeAdapter[_T]) -> _T:
    """The values of a cursor that `encode` made; ``kind`` is their tuple's.

    Raises:
        InvalidCursorError: it was made for another list, or by somebody else.
    """
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if b"\\u0000" in plain or b"\0" in plain:
            raise InvalidCursorError
        return kind.validate_json(plain)
    except (ValidationError, binascii.Error, ValueError):
        raise InvalidCursorError from None


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case int() | str():
            return value
        case _:
            return str(value)
