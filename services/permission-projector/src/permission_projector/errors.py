"""The refusals of the read API; their table is docs/errors.md.

ApiError
├── DeviceNotFoundError      DEVICE_NOT_FOUND    404
├── InvalidCursorError       INVALID_CURSOR      400
├── InvalidPositionError     INVALID_POSITION    400
├── NotYetVisibleError       NOT_YET_VISIBLE     503
└── UnavailableError         UNAVAILABLE         503
"""

from collections.abc import Sequence

from contracts.positions import Position, format_positions
from servicekit.http import ApiError

_RETRY = {"Retry-After": "1"}


class DeviceNotFoundError(ApiError):
    """There is no such device, or it is not shared with the caller: the same answer for both."""

    def __init__(self, device_id: str) -> None:
        super().__init__(
            "DEVICE_NOT_FOUND",
            404,
            "There is no such device among yours and those shared with you.",
            details={"device_id": device_id},
        )


class InvalidCursorError(ApiError):
    """A cursor that this list did not give."""

    def __init__(self) -> None:
        super().__init__(
            "INVALID_CURSOR",
            400,
            "The cursor is none of this list. Send `next` of the page before and its `sort`, or begin anew.",
        )


class InvalidPositionError(ApiError):
    """A position that cannot be read; nothing was waited for."""

    def __init__(self, message: str) -> None:
        super().__init__("INVALID_POSITION", 400, f"{message}. Send the header as you were given it.")


class NotYetVisibleError(ApiError):
    """The wait ended before the read models had reached the position. ``known`` is how far they are."""

    def __init__(self, known: Sequence[Position]) -> None:
        super().__init__(
            "NOT_YET_VISIBLE",
            503,
            "What you ask for is not visible here yet. Ask again in a moment, or wait longer.",
            details={"known": format_positions(tuple(known))},
            headers=_RETRY,
        )


class UnavailableError(ApiError):
    """The database does not answer."""

    def __init__(self) -> None:
        super().__init__(
            "UNAVAILABLE", 503, "The read models cannot be reached. Try again in a moment.", headers=_RETRY
        )
