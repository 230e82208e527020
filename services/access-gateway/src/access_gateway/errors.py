"""The refusals that reach a caller of the HTTP API.

ApiError
├── AccessDeniedError         403 ACCESS_DENIED
├── ConnectionNotFoundError   404 CONNECTION_NOT_FOUND
├── DeviceNotFoundError       404 DEVICE_NOT_FOUND
├── InvalidPositionError      422 INVALID_REQUEST
├── UnusableRequestError      400 INVALID_REQUEST
├── RateLimitedError          429 RATE_LIMITED
├── NotYetVisibleError        503 NOT_YET_VISIBLE
├── UnavailableError          503 UNAVAILABLE
└── NotReachedError           502 TARGET_UNREACHABLE, TARGET_NOT_ALLOWED, DEVICE_OFFLINE
"""

import math

from access_gateway.policy import Refusal
from access_gateway.refusals import RefusedError
from contracts.positions import POSITION_HEADER
from servicekit.http import ApiError

_FULL_SECONDS = 60.0


class AccessDeniedError(ApiError):
    """You may not connect to this service, or it does not exist. Ask its owner to share it with you."""

    def __init__(self) -> None:
        super().__init__("ACCESS_DENIED", 403, str(type(self).__doc__))


class ConnectionNotFoundError(ApiError):
    """You have no open connection with this id."""

    def __init__(self) -> None:
        super().__init__("CONNECTION_NOT_FOUND", 404, str(type(self).__doc__))


class DeviceNotFoundError(ApiError):
    """You have no device with this id. Only a device's owner can enrol or remove its agent."""

    def __init__(self) -> None:
        super().__init__("DEVICE_NOT_FOUND", 404, str(type(self).__doc__))


class InvalidPositionError(ApiError):
    """The header does not hold positions."""

    def __init__(self, why: str) -> None:
        super().__init__("INVALID_REQUEST", 422, f"The header {POSITION_HEADER} cannot be used: {why}.")


class UnusableRequestError(ApiError):
    """A question of the evaluation endpoint that cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__("INVALID_REQUEST", 400, why)


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


class NotReachedError(ApiError):
    """You may connect to this service, but the gateway cannot."""

    def __init__(self, code: Refusal) -> None:
        why = {
            Refusal.TARGET_NOT_ALLOWED: "Its address is not in the networks that the operator allows.",
            Refusal.TARGET_UNREACHABLE: "It does not answer. See whether the device is on.",
            Refusal.DEVICE_OFFLINE: "The device's agent is not connected. See whether the device is on.",
        }.get(code, "")
        super().__init__(code.value, 502, f"{type(self).__doc__} {why}".strip())


class UnavailableError(ApiError):
    """Nothing can be opened now."""

    def __init__(self, why: str) -> None:
        super().__init__("UNAVAILABLE", 503, f"{why} Try again later.", headers={"Retry-After": "2"})


def refusal(error: RefusedError) -> ApiError:
    """What a refused connection is told as. That access cannot be proved fresh, and that nothing can be
    checked, are the same to who asks."""
    match error.code:
        case Refusal.ACCESS_DENIED | Refusal.WRONG_SOURCE:
            return AccessDeniedError()
        case Refusal.RATE_LIMITED:
            return RateLimitedError(
                "You were refused too often. Wait before you try again.", error.retry_after
            )
        case Refusal.TOO_MANY_CONNECTIONS:
            return RateLimitedError("You have too many open connections. Close one of them.", _FULL_SECONDS)
        case Refusal.NOT_YET_VISIBLE:
            return NotYetVisibleError()
        case Refusal.UNAVAILABLE | Refusal.STALE:
            return UnavailableError("It cannot be proved now what you may connect to.")
        case _:
            return NotReachedError(error.code)
