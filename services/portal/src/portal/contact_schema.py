"""The contact book in GraphQL, contact codes (QR codes), and whose shares the caller always accepts."""

import io
from datetime import datetime

import segno
import strawberry

from contracts.commands import RemoveRecipient
from portal.commanding import Info, command_id, path, sent
from portal.errors import InvalidRequest
from portal.people import Person
from servicekit.http import ApiError


@strawberry.type(description="Somebody in the caller's contact book.")
class Contact(Person):
    """As a recipient he can be named `contact:<id>`."""

    phone: str | None = strawberry.field(description="When the address is a telephone number.")
    name: str | None = strawberry.field(
        default=None, description="Of who showed the caller his contact code; else null."
    )
    remark: str | None = strawberry.field(description="The caller's own note; nobody else ever gets it.")
    last_used: datetime | None


@strawberry.type(description="A code that somebody else may scan to add the caller to his contacts.")
class ContactCode:
    """It holds no address, and ends soon; whoever scans it in time gets the caller's name and address."""

    code: str
    ends_at: datetime
    svg: str = strawberry.field(description="The QR code as an SVG document.")


@strawberry.type(description="Who showed a contact code; his address is in the contact book.")
class ScannedContact(Person):
    """As a recipient he can be named `contact:<id>`."""


@strawberry.type(description="A sharer whose shares the caller always accepts.")
class AlwaysAccepted:
    """Only new shares; what was accepted stays until it is left."""

    owner_id: strawberry.ID
    name: str | None
    since: datetime


@strawberry.type
class ContactFields:
    """What a user has of contacts."""

    @strawberry.field(description="The caller's contact book, the last used first.")
    async def contacts(self, info: Info, containing: str | None = strawberry.UNSET) -> list[Contact]:
        """``containing``: part of an address, name or remark."""
        context = info.context
        book = await context.peers.share_command.contacts(context.account_id, containing or None)
        return [
            Contact(
                id=strawberry.ID(str(item.contact_id)),
                email=None if item.is_phone else item.address,
                phone=item.address if item.is_phone else None,
                name=item.name,
                remark=item.remark,
                last_used=item.last_used_at,
            )
            for item in book
        ]

    @strawberry.field(description="Whose shares the caller always accepts.")
    async def always_accepted(self, info: Info) -> list[AlwaysAccepted]:
        """In order of id."""
        context = info.context
        owners = await context.peers.share_command.accepting_from(context.account_id)
        return [
            AlwaysAccepted(owner_id=strawberry.ID(item.owner_account_id), name=item.name, since=item.since)
            for item in owners
        ]


@strawberry.type
class ContactMutations:
    """What can be done with contacts."""

    @strawberry.mutation(description="Put an address into the contact book; the contact's id.")
    async def add_contact(
        self, info: Info, recipient: str, remark: str | None = strawberry.UNSET
    ) -> strawberry.ID:
        """The same address again is the same contact."""
        context = info.context
        added = await context.peers.share_command.add_contact(context.account_id, recipient, remark or None)
        await context.own_changes.tell(context.account_id, "contacts")
        return strawberry.ID(str(added.contact_id))

    @strawberry.mutation(
        description="Note something on a contact, for the caller alone; empty takes it away."
    )
    async def set_remark(self, info: Info, contact_id: str, remark: str) -> bool:
        """At most 200 characters."""
        context = info.context
        try:
            await context.peers.share_command.set_remark(context.account_id, contact_id, remark)
            await context.own_changes.tell(context.account_id, "contacts")
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True

    @strawberry.mutation(
        description="Delete a recipient: every share with him on all devices ends, his open connections are "
        "cut, and he and the remark on him leave the contact book."
    )
    async def remove_recipient(self, info: Info, recipient: str) -> bool:
        """An address, or `contact:<id>`; who is not in the book is a success."""
        context = info.context
        named = {"command_id": command_id(info), "actor": context.account_id}
        removed = await sent(
            info,
            lambda: RemoveRecipient.model_validate({**named, "recipient": recipient}),
            context.peers.share_command.send,
        )
        if removed:
            await context.own_changes.tell(context.account_id, "contacts")
        return removed

    @strawberry.mutation(description="Make a code that somebody else may scan to add the caller.")
    async def create_contact_code(self, info: Info) -> ContactCode:
        """Signed, and good for some minutes."""
        context = info.context
        made = await context.peers.share_command.contact_code(context.account_id)
        drawing = io.BytesIO()
        segno.make(made.code, error="m").save(drawing, kind="svg", scale=4, xmldecl=False)
        return ContactCode(code=made.code, ends_at=made.ends_at, svg=drawing.getvalue().decode())

    @strawberry.mutation(description="Use a contact code: puts who showed it into the contact book.")
    async def scan_contact_code(self, info: Info, code: str) -> ScannedContact:
        """Its `id` is the contact's; name and address are in the contact book then."""
        if not code or len(code) > 2000:
            raise InvalidRequest("code must be what was scanned.")
        context = info.context
        scanned = await context.peers.share_command.scan_code(context.account_id, code)
        await context.own_changes.tell(context.account_id, "contacts")
        return ScannedContact(id=strawberry.ID(str(scanned.contact_id)), email=None, name=scanned.name)

    @strawberry.mutation(
        description="Accept whatever this sharer shares with the caller from now on, or decide each time."
    )
    async def set_always_accept(self, info: Info, owner_id: str, always: bool) -> bool:
        """Open invitations stay open; what was accepted stays accepted."""
        context = info.context
        try:
            await context.peers.share_command.set_always_accept(context.account_id, owner_id, always=always)
            await context.own_changes.tell(context.account_id, "invitations")
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True
