"""Every code that can reach somebody is in the table that people read."""

from pathlib import Path

import pytest

from access_gateway import errors
from access_gateway.policy import Refusal
from servicekit.http import ApiError

TABLE = (Path(__file__).parents[4] / "docs" / "errors.md").read_text()


@pytest.mark.parametrize(
    "error",
    [
        errors.AccessDeniedError(),
        errors.ConnectionNotFoundError(),
        errors.DeviceNotFoundError(),
        errors.InvalidPositionError("why"),
        errors.UnusableRequestError("Why."),
        errors.RateLimitedError("What.", 0.2),
        errors.NotYetVisibleError(),
        errors.UnavailableError("Why."),
        errors.NotReachedError(Refusal.TARGET_UNREACHABLE),
        errors.NotReachedError(Refusal.TARGET_NOT_ALLOWED),
        errors.NotReachedError(Refusal.DEVICE_OFFLINE),
    ],
)
def test_every_error_is_documented_with_its_status(error: ApiError) -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith(f"| `{error.code}` | {error.status} |")]
    assert any("access-gateway" in row for row in rows)
    assert error.message.endswith(".")


def test_every_error_class_is_covered() -> None:
    classes = {name for name in vars(errors) if name.endswith("Error") and name != "ApiError"}
    assert classes == {
        "AccessDeniedError",
        "ConnectionNotFoundError",
        "DeviceNotFoundError",
        "InvalidPositionError",
        "UnusableRequestError",
        "RateLimitedError",
        "NotYetVisibleError",
        "UnavailableError",
        "NotReachedError",
        "RefusedError",
    }


def test_a_caller_is_told_to_wait_at_least_a_second() -> None:
    assert errors.RateLimitedError("what", 0.2).headers["Retry-After"] == "1"


@pytest.mark.parametrize("reason", list(Refusal))
def test_every_reason_is_documented(reason: str) -> None:
    assert f"`{reason}`" in TABLE
