"""The refusals that reach a caller of the HTTP API.

ApiError
├── AccessDeniedError         403 ACCESS_DENIED
├── ConnectionNotFoundError   404 CONNECTION_NOT_FOUND
├── InvalidPositionError      422 INVALID_REQUEST
├── RateLimitedError          429 RATE_LIMITED
├── NotYetVisibleError        503 NOT_YET_VISIBLE
└── UnavailableError          503 UNAVAILABLE
"""

import math

from contracts.positions import POSITION_HEADER
from servicekit.http import ApiError


class AccessDeniedError(ApiError):
    """You may not connect to this service, or it does not exist. Ask its owner to share it with you."""

    def __init__(self) -> None:
        super().__init__("ACCESS_DENIED", 403, str(type(self).__doc__))


class ConnectionNotFoundError(ApiError):
    """You have no open connection with this id."""

    def __init__(self) -> None:
        super().__init__("CONNECTION_NOT_FOUND", 404, str(type(self).__doc__))


class InvalidPositionError(ApiError):
    """The header does not hold positions."""

    def __init__(self, why: str) -> None:
        super().__init__("INVALID_REQUEST", 422, f"The header {POSITION_HEADER} cannot be used: {why}.")


class RateLimitedError(ApiError):
    """Too much at once; ``retry_after`` is in seconds."""

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(
            "RATE_LIMITED", 429, what, headers={"Retry-After": str(max(1, math.ceil(retry_after)))}
        )


class NotYetVisibleError(ApiError):
    """What you refer to has not arrived here yet. Try again in a moment."""

    def __init__(self) -> None:
        super().__init__("NOT_YET_VISIBLE", 503, str(type(self).__doc__), headers={"Retry-After": "1"})


class UnavailableError(ApiError):
    """Nothing can be opened now."""

    def __init__(self, why: str) -> None:
        super().__init__("UNAVAILABLE", 503, f"{why} Try again later.", headers={"Retry-After": "2"})
