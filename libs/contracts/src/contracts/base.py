"""Identifiers and the two base models that every contract is built from."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import uuid_utils
import uuid_utils.compat
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:._-]{1,64}$")]
"""An identifier given by an upstream registry: 1 to 64 characters of ``[A-Za-z0-9:._-]``."""

AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:._|-]{1,128}$")]
"""An OpenID Connect ``sub``: 1 to 128 characters, those of `Id` and ``|``."""

CommandId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
"""The idempotency key of a command: 1 to 128 visible ASCII characters."""


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC this time is not within the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A time that somebody asks for, in UTC."""


Text = Annotated[str, StringConstraints(max_length=1_000_000)]
"""Text as somebody typed it. The bound is that of a message; having one refuses halves of surrogates."""


class Fact(BaseModel):
    """A published fact. Unknown fields are ignored, so that an older reader survives a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Order(BaseModel):
    """An instruction. Unknown fields are refused: a misspelt ``services`` must never mean all services."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): unique, and ordered by the time of its making."""
    return uuid_utils.compat.uuid7()


def new_id_text() -> str:
    """The same as text, which is made in a tenth of the time."""
    return str(uuid_utils.uuid7())
