"""Tokens in accept and reject links: signed, so that they need no table and can be rendered again."""

import hashlib
from datetime import datetime
from typing import Literal
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer
from pydantic import AwareDatetime, ValidationError

from contracts.base import Fact, Id


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


def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(
        secret, salt="latchkey.invitation-link.v1", signer_kwargs={"digest_method": hashlib.sha256}
    )


def sign_link(link: InvitationLink, secret: str) -> str:
    """The token to put into a URL (HMAC-SHA256; characters ``A-Za-z0-9_.-``)."""
    return _serializer(secret).dumps(link.model_dump(mode="json")).replace("\n", "")


def read_link(token: str, secret: str, now: datetime) -> InvitationLink:
    """The link behind a token.

    Raises:
        InvalidLinkError: wrong signature, wrong form, or past its end.
    """
    try:
        link = InvitationLink.model_validate(_serializer(secret).loads(token))
    except (BadData, ValidationError):
        raise InvalidLinkError("This link is not valid. Open the newest mail you got, or sign in.") from None
    if link.ends_at <= now:
        raise InvalidLinkError("This link has ended. Ask for the invitation to be sent again.")
    return link
