"""The contact book, contact codes, and whose shares an account always accepts."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator

from contracts.base import AccountId
from contracts.commands import plain_text
from contracts.links import ContactCode, InvalidLinkError, read_code, sign_code
from share_command.errors import InvalidContactCode
from share_command.handlers import Handlers
from share_command.http.limiting import Limited
from share_command.http.models import (
    AcceptedOwner,
    AcceptedOwners,
    Caller,
    Code,
    CodeText,
    ContactEntry,
    ContactId,
    Contacts,
    NewContact,
    RemarkChange,
)
from share_command.settings import Settings


def _plain(value: str | None) -> str | None:
    return None if value is None else plain_text(value)


_Owner = Annotated[AccountId, Path(description="The sharer.")]


def add_routes(
    router: APIRouter, handlers: Handlers, *, caller: Caller, limited: Limited, settings: Settings
) -> None:
    """Add the routes."""
    secret = settings.link_secret.get_secret_value()
    code_life = timedelta(minutes=settings.contact_code_minutes)

    async def contacts(
        actor: Annotated[str, Depends(caller)],
        containing: Annotated[str | None, Query(max_length=320), AfterValidator(_plain)] = None,
        size: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    ) -> Contacts:
        """``containing``: part of an address, name or remark, whatever the case."""
        found = await handlers.outside(lambda book: book.contacts(actor, containing, size))
        return Contacts(
            contacts=[
                ContactEntry(
                    contact_id=item.contact_id,
                    address=item.address,
                    name=item.name,
                    remark=item.remark,
                    last_used_at=item.last_used_at,
                )
                for item in found
            ]
        )

    async def add(body: NewContact, actor: Annotated[str, Depends(limited)]) -> ContactId:
        """The same address again is the same contact, and no error."""
        contact_id = await handlers.outside(lambda book: book.add(actor, body.recipient, body.remark))
        return ContactId(contact_id=contact_id)

    async def remark(contact_id: UUID, body: RemarkChange, actor: Annotated[str, Depends(limited)]) -> None:
        """Nobody but the caller ever gets it."""
        await handlers.outside(lambda book: book.set_remark(actor, contact_id, body.remark))

    async def code(actor: Annotated[str, Depends(limited)]) -> Code:
        """It names the caller's account and holds no address; who scans it in time gets name and address."""
        ends_at = handlers.now() + code_life
        return Code(code=sign_code(ContactCode(account_id=actor, ends_at=ends_at), secret), ends_at=ends_at)

    async def scan(body: CodeText, actor: Annotated[str, Depends(limited)]) -> ContactId:
        """Puts whoever showed the code into the caller's book."""
        try:
            shown = read_code(body.code, secret, handlers.now())
        except InvalidLinkError:
            raise InvalidContactCode from None
        contact_id, name = await handlers.outside(lambda book: book.add_account(actor, shown.account_id))
        return ContactId(contact_id=contact_id, name=name)

    async def accepting(actor: Annotated[str, Depends(caller)]) -> AcceptedOwners:
        """Of the caller, as a recipient."""
        owners = await handlers.outside(lambda book: book.accepting_from(actor))
        return AcceptedOwners(owners=[AcceptedOwner.model_validate(owner) for owner in owners])

    async def always(owner_account_id: _Owner, actor: Annotated[str, Depends(limited)]) -> None:
        """From now on; what is open stays open. Tells nothing about whether there is such an account."""
        await handlers.outside(lambda book: book.always_accept(actor, owner_account_id))

    async def never(owner_account_id: _Owner, actor: Annotated[str, Depends(limited)]) -> None:
        """From now on; what was accepted stays accepted."""
        await handlers.outside(lambda book: book.never_accept(actor, owner_account_id))

    for path, endpoint, method, summary in (
        ("/contacts", contacts, "GET", "Contact book"),
        ("/contacts", add, "POST", "Put an address into the contact book"),
        ("/contact-codes", code, "POST", "A contact code (QR code) of the caller's"),
        ("/contact-codes/scans", scan, "POST", "Use the contact code that somebody showed"),
        ("/always-accept", accepting, "GET", "Whose shares the caller always accepts"),
    ):
        router.add_api_route(path, endpoint, methods=[method], summary=summary)
    rule = "/always-accept/{owner_account_id}"
    for path, endpoint, method, summary in (
        ("/contacts/{contact_id}/remark", remark, "PUT", "Note something on a contact"),
        (rule, always, "PUT", "Always accept from this sharer"),
        (rule, never, "DELETE", "Decide on each share of this sharer"),
    ):
        router.add_api_route(path, endpoint, methods=[method], summary=summary, status_code=204)
