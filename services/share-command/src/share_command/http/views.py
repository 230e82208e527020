"""What people look at before they decide: an invitation, the shares of a device, the owner's words."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query

from contracts.base import Id
from contracts.links import InvalidLinkError, read_link
from share_command.errors import InvalidLink
from share_command.handlers import Handlers
from share_command.http.models import (
    Caller,
    DeletedAccount,
    DeletedAccounts,
    GivenShare,
    GivenShares,
    Invitation,
    LinkToken,
    Messages,
    ShareIds,
)

_MOST_NUMBER: Final = 2**63 - 1


def add_routes(router: APIRouter, handlers: Handlers, caller: Caller, link_secret: str) -> None:
    """Add the routes."""

    async def invitation(body: LinkToken, actor: Annotated[str, Depends(caller)]) -> Invitation:
        """For the account that has verified the invited address; for all others INVALID_LINK."""
        try:
            link = read_link(body.token, link_secret, handlers.now())
        except InvalidLinkError:
            raise InvalidLink from None
        found = await handlers.outside(
            lambda book: book.invitation(link.share_id, link.device_id, link.contact_id, actor)
        )
        if found is None:
            raise InvalidLink
        return Invitation.model_validate(
            {
                **found,
                "purpose": link.purpose,
                "changed_since_link": found["invitation_version"] != link.invitation_version,
            }
        )

    async def shares(
        device_id: Annotated[Id, Query()], actor: Annotated[str, Depends(caller)]
    ) -> GivenShares:
        """Empty for whoever does not own the device."""
        found = await handlers.outside(lambda book: book.given_shares(actor, device_id))
        return GivenShares(shares=[GivenShare.model_validate(item) for item in found])

    async def messages(body: ShareIds, actor: Annotated[str, Depends(caller)]) -> Messages:
        """Only those that have one, and that the caller gives or may accept."""
        return Messages(messages=await handlers.outside(lambda book: book.messages(actor, body.share_ids)))

    async def deleted(
        _caller: Annotated[str, Depends(caller)],
        after: Annotated[int, Query(ge=0, le=_MOST_NUMBER, description="The last `number` known.")] = 0,
        size: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
    ) -> DeletedAccounts:
        """Each account that the registry has ever deleted, once, where its newest `number` is.

        An account that is `there_again` was gone in between: what was kept of it before is nobody's.
        """
        rows = await handlers.outside(lambda book: book.deletions(after, size))
        return DeletedAccounts(items=[DeletedAccount.model_validate(row) for row in rows])

    router.add_api_route(
        "/deleted-accounts", deleted, methods=["GET"], summary="Which accounts were deleted, in order"
    )
    router.add_api_route(
        "/invitation-links", invitation, methods=["POST"], summary="What an invitation link shows"
    )
    router.add_api_route("/shares", shares, methods=["GET"], summary="Live shares of a device, to edit them")
    router.add_api_route(
        "/messages", messages, methods=["POST"], summary="The owner's words to the recipient"
    )
