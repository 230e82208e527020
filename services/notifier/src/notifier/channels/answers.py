"""What HTTP services that take messages answer: taken, later, or never."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from notifier.errors import DeferredError


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds that the service asks us to wait (RFC 9110, 10.2.3); None when it says nothing usable."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        return max(0.0, (parsedate_to_datetime(said).astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def deferred(code: str, answer: httpx.Response) -> DeferredError:
    """Not for now, as ``answer`` says."""
    return DeferredError(
        code, "The service asks to try again later.", answer.status_code, retry_after=retry_after(answer)
    )


async def post(client: httpx.AsyncClient, url: str, code: str, **request: object) -> httpx.Response:
    """The answer to a POST; raises DeferredError ``code`` when there is none."""
    try:
        return await client.post(url, **request)  # pyright: ignore[reportArgumentType] - httpx's own parameters
    except httpx.HTTPError as error:
        raise DeferredError(code, f"The service cannot be reached: {type(error).__name__}.") from None
