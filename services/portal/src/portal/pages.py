"""The pages that work without the app: an invitation, what came of it. Looking at them changes nothing."""

from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from contracts.base import new_id
from contracts.commands import AcceptShare, RejectShare
from contracts.positions import parse_positions
from portal import answers
from portal.context import Peers
from portal.errors import InvalidRequest, NothingHere, Refused
from portal.rendering import PageRoute, page
from portal.visiting import Visitor, Visitors, sign_in_address
from portal.wording import moment, terms_in_words
from servicekit.http import ApiError, error_answer

_CHANGED = "The sharer has changed the invitation meanwhile. Nothing was accepted; this is how it stands now."


class _Decision:
    """A form that accepts or rejects. ``version`` is of the terms that the person saw."""

    def __init__(self, decision: str, csrf: str, version: str) -> None:
        if decision not in ("accept", "reject"):
            raise InvalidRequest("Choose Accept or Reject.")
        self.accepts = decision == "accept"
        self.csrf, self._version = csrf, version

    def command(self, visitor: Visitor, *, device_id: str, share_id: str) -> AcceptShare | RejectShare:
        """The command that the form means; raises `InvalidRequest` when its hidden fields were altered."""
        fields = {
            "command_id": str(new_id()),
            "actor": visitor.account_id,
            "device_id": device_id,
            "share_id": share_id,
        }
        try:
            if self.accepts:
                return AcceptShare.model_validate({**fields, "invitation_version": self._version})
            return RejectShare.model_validate(fields)
        except ValidationError:
            raise InvalidRequest("This form cannot be used. Load the page again.") from None


def router(visitors: Visitors, peers: Peers) -> APIRouter:
    """The pages for people."""
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)
    look = ["GET", "HEAD"]

    @routes.api_route("/invitations/{token}", methods=look)
    async def invitation(request: Request, token: str) -> Response:
        """The terms, for the invited; nothing about them for anybody else."""
        visitor = await visitors.of(request)
        if visitor is None:
            path = f"/invitations/{quote(token, safe='')}"
            return page("invitation_signed_out.html", login=sign_in_address(path))
        return await _invitation_page(peers, visitor, token)

    @routes.post("/invitations/{token}")
    async def decide(
        request: Request,
        token: str,
        decision: Annotated[str, Form()] = "",
        csrf: Annotated[str, Form()] = "",
        invitation_version: Annotated[str, Form()] = "",
    ) -> Response:
        """Accept or reject the invitation behind a link."""
        visitor = await visitors.of(request)
        if visitor is None:
            return RedirectResponse(f"/invitations/{quote(token, safe='')}", 303)
        visitors.check_csrf(request, csrf)
        form = _Decision(decision, csrf, invitation_version)
        try:
            found = await peers.share_command.invitation(visitor.account_id, token)
            command = form.command(visitor, device_id=found.device_id, share_id=str(found.share_id))
            positions = await peers.share_command.send(command)
        except Refused as error:
            if error.code == "INVALID_LINK":
                return await _invitation_page(peers, visitor, token)
            notice = _CHANGED if error.code == "CONFLICT" else error.message
            return await _invitation_page(peers, visitor, token, notice=notice, status=error.status)
        return _done(form.accepts, positions)

    @routes.api_route("/done", methods=look)
    async def done(
        request: Request, outcome: Literal["accepted", "rejected"], at: str | None = None
    ) -> Response:
        """What came of a decision."""
        visitor = await visitors.of(request)
        position = _position(at)
        device = await _device_at(peers, visitor, position) if outcome == "accepted" else None
        home_address = f"/?{urlencode({'at': position})}" if position else "/"
        return page("done.html", outcome=outcome, device=device, home=home_address, visitor=visitor)

    routes.add_api_route("/{path:path}", nothing_here, methods=look, include_in_schema=False)
    return routes


async def nothing_here(request: Request) -> Response:
    """A page for people, a coded error for programs."""
    if "text/html" in request.headers.get("accept", ""):
        raise NothingHere
    return error_answer(NothingHere())


def _done(accepted: bool, positions: str) -> Response:
    query = {"outcome": "accepted" if accepted else "rejected", "at": positions}
    return RedirectResponse(f"/done?{urlencode(query)}", 303)


def _position(text: str | None) -> str | None:
    """A position from an address line; what is none is ignored, for nobody typed it."""
    try:
        return text if text and parse_positions(text) else None
    except ValueError:
        return None


async def _device_at(peers: Peers, visitor: Visitor | None, position: str | None) -> answers.Device | None:
    """The device that was just accepted, when its reader has caught up; the page does without it else."""
    if visitor is None or position is None:
        return None
    device_id = parse_positions(position)[0].device_id
    try:
        return await peers.read_api.device(visitor.account_id, device_id, position)
    except ApiError:
        return None


async def _invitation_page(
    peers: Peers, visitor: Visitor, token: str, *, notice: str = "", status: int = 200
) -> Response:
    path = f"/invitations/{quote(token, safe='')}"
    try:
        found = await peers.share_command.invitation(visitor.account_id, token)
    except Refused as error:
        if error.code != "INVALID_LINK":
            raise
        return page("invitation_foreign.html", 404, visitor=visitor, path=path)
    return page(
        "invitation.html",
        status,
        visitor=visitor,
        path=path,
        invitation=found,
        owner=found.owner_name or "the owner",
        sharer=found.owner_name or "Somebody",
        terms=terms_in_words(found.terms, found.service_names),
        accept_until=moment(found.expires_at) if found.expires_at else None,
        notice=notice,
    )
