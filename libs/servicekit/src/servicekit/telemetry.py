"""The correlation id: one id that follows a request through HTTP, Kafka and every log line."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

import structlog

CORRELATION_HEADER = "X-Correlation-Id"
_ALLOWED = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def correlation_id() -> str | None:
    """The id of the work at hand, if any."""
    return _current.get()


@contextmanager
def correlated(given: str | None, **fields: object) -> Generator[str]:
    """Run the block under the id ``given``, or a new one when it is absent or not fit for a log line.

    ``fields`` stand in each log line of the block too.
    """
    value = given if given is not None and _ALLOWED.fullmatch(given) else uuid4().hex
    token = _current.set(value)
    try:
        with structlog.contextvars.bound_contextvars(correlation_id=value, **fields):
            yield value
    finally:
        _current.reset(token)
