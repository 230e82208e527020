"""Tokens in accept and reject links, and in contact codes: signed, so that they need no table and can be made
again. None holds an address."""

import hashlib
from datetime import datetime
from functools import lru_cache
from typing import Literal
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer
from pydantic import AwareDatetime, ValidationError

from contracts.base import AccountId, Fact, Id


class InvalidLinkError(ValueError):
    """The link was not made by us, was altered, or has ended. ``code`` is stable."""

    code = "INVALID_LINK"


class InvitationLink(Fact):
    """What a link says: it names an invitation and an intent, and gives no access by itself."""

    share_id: UUID
    device_id: Id
    contact_id: UUID
    invitation_version: int
    purpose: Literal["accept", "reject"]
    ends_at: AwareDatetime


class ContactCode(Fact):
    """What a QR code says: whose it is, for whoever scans it in time; it gives no access."""

    account_id: AccountId
    ends_at: AwareDatetime


_LINK, _CODE = "latchkey.invitation-link.v1", "latchkey.contact-code.v1"


@lru_cache(maxsize=8)
def _serializer(secret: str, salt: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt=salt, signer_kwargs={"digest_method": hashlib.sha256})


def sign_link(link: InvitationLink, secret: str) -> str:
    """The token to put into a URL (HMAC-SHA256; characters ``A-Za-z0-9_.-``)."""
    return _serializer(secret, _LINK).dumps(link.model_dump(mode="json")).replace("\n", "")


def read_link(token: str, secret: str, now: datetime) -> InvitationLink:
    """The link behind a token.

    Raises:
        InvalidLinkError: wrong signature, wrong form, or past its end.
    """
    try:
        link = InvitationLink.model_validate(_serializer(secret, _LINK).loads(token))
    except (BadData, ValidationError):
        raise InvalidLinkError("This link is not valid. Open the newest mail you got, or sign in.") from None
    if link.ends_at <= now:
        raise InvalidLinkError("This link has ended. Ask for the invitation to be sent again.")
    return link


def sign_code(code: ContactCode, secret: str) -> str:
    """The text of a contact code (HMAC-SHA256; characters ``A-Za-z0-9_.-``)."""
    return _serializer(secret, _CODE).dumps(code.model_dump(mode="json")).replace("\n", "")


def read_code(text: str, secret: str, now: datetime) -> ContactCode:
    """The contact code behind a text; raises InvalidLinkError as `read_link` does."""
    try:
        code = ContactCode.model_validate(_serializer(secret, _CODE).loads(text))
    except (BadData, ValidationError):
        raise InvalidLinkError("This contact code is not valid. Scan a new one.") from None
    if code.ends_at <= now:
        raise InvalidLinkError("This contact code has ended. Scan a new one.")
    return code
