"""Bodies and answers that are HTTP's own."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Request
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from contracts.base import Order
from contracts.commands import plain_text
from contracts.permissions import Terms

Caller = Callable[[Request], str]
"""Knows the acting account of a request; raises ApiError ``UNAUTHENTICATED``."""

Remark = Annotated[str, StringConstraints(max_length=200), AfterValidator(plain_text)]
"""Plain text, at most 200 characters; empty takes the remark away."""

Address = Annotated[str, StringConstraints(min_length=1, max_length=320)]


class ErrorBody(BaseModel):
    """A refusal: a stable code, and what to do. The rest names what was refused, and what is so now."""

    code: str
    message: str
    device_id: str | None = None
    service_id: str | None = None
    recipient: str | None = None
    state: str | None = None
    version: int | None = None
    invitation_version: int | None = None
    terms: Terms | None = None
    retry_after_seconds: int | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


class ContactEntry(BaseModel):
    """A contact of the caller's book, with his remark; ``name`` when it showed a contact code."""

    contact_id: UUID
    address: str
    name: str | None = None
    remark: str | None = None
    last_used_at: datetime


class Contacts(BaseModel):
    """The caller's contact book, the last used first."""

    contacts: list[ContactEntry]


class NewContact(Order):
    """An address for the caller's book."""

    recipient: Address
    remark: Remark | None = None


class RemarkChange(Order):
    """The remark that a contact gets."""

    remark: Remark


class ContactId(BaseModel):
    """A contact of the caller's book; ``name`` when its account showed a contact code."""

    contact_id: UUID
    name: str | None = None


class DeletedAccount(BaseModel):
    """An account that the registry has deleted; ``there_again``: and has since written anew."""

    number: int
    account_id: str
    there_again: bool


class DeletedAccounts(BaseModel):
    """Some of them, ascending by ``number``."""

    items: list[DeletedAccount]


class CodeText(Order):
    """What was scanned."""

    code: Annotated[str, Field(min_length=1, max_length=2000)]


class Code(BaseModel):
    """What to show as a QR code, and until when it can be scanned."""

    code: str
    ends_at: datetime


class AcceptedOwner(BaseModel):
    """An owner whose shares the caller always accepts."""

    owner_account_id: str
    name: str | None
    since: datetime


class AcceptedOwners(BaseModel):
    """Whose shares the caller always accepts."""

    owners: list[AcceptedOwner]


class LinkToken(Order):
    """The token of an accept or reject link."""

    token: Annotated[str, Field(min_length=1, max_length=2000)]


class Invitation(BaseModel):
    """The invitation behind a link, as it stands now; for the account that has verified its address."""

    share_id: UUID
    device_id: str
    device_name: str
    """The id instead once the share has ended."""
    owner_name: str | None
    state: Literal["requested", "active", "rejected", "revoked", "left", "expired"]
    invitation_version: int
    purpose: Literal["accept", "reject"]
    terms: Terms
    expires_at: datetime | None
    message: str | None
    service_names: dict[str, str]
    """Names of the services that the terms list; none once the share has ended."""
    changed_since_link: bool


class GivenShare(BaseModel):
    """A live share of the caller's device: what an edit starts from (``version`` is its expected_version)."""

    share_id: UUID
    contact_id: UUID
    address: str
    remark: str | None
    state: Literal["requested", "active"]
    terms: Terms
    version: int
    invitation_version: int
    expires_at: datetime | None
    message: str | None
    account_id: str | None


class GivenShares(BaseModel):
    """The live shares of one device of the caller's."""

    shares: list[GivenShare]


class ShareIds(Order):
    """Shares that are asked about."""

    share_ids: Annotated[list[UUID], Field(max_length=1000)]


class Messages(BaseModel):
    """Share id → the owner's words to the recipient; only where the caller is one of the two."""

    messages: dict[UUID, str]
