"""The unsubscribe links of mails: looking changes nothing, one POST turns such mails off (RFC 8058).

The POST needs no sign-in, no cookie and no token of a form: mail programs send it by themselves, and the
signed link is all the authority there is; the worst that a forged one could do is what its link is for.
"""

from typing import Final

from fastapi import APIRouter, Request, Response

from portal.errors import Refused
from portal.notices import Notifier
from portal.rendering import PageRoute, page

_WORDS: Final = {
    "invitation": "invitations",
    "invitation_changed": "changed invitations",
    "share_changed": "changes of what is shared with you",
    "revoked": "shares that were taken back",
    "expiring": "shares and invitations that end soon",
    "expired": "shares that have ended",
    "accepted": "invitations that were accepted",
    "rejected": "invitations that were rejected",
    "left": "shares that were given back",
    "undeliverable": "invitations that could not be delivered",
    "first_use": "the first use of what you share",
}


def router(notifier: Notifier) -> APIRouter:
    """The page and its button."""
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)

    @routes.api_route("/unsubscribe/{token}", methods=["GET", "HEAD"])
    async def look(token: str) -> Response:
        """What the link is about, and a button."""
        try:
            found = await notifier.linked_kinds(token)
        except Refused as error:
            return _refused(error)
        return page("unsubscribe.html", kinds=_in_words(found.kinds), done=False)

    @routes.post("/unsubscribe/{token}")
    async def unsubscribe(request: Request, token: str) -> Response:
        """No more such mails."""
        await request.body()  # `List-Unsubscribe=One-Click` or nothing: it decides nothing
        try:
            found = await notifier.stop_mails(token)
        except Refused as error:
            return _refused(error)
        return page("unsubscribe.html", kinds=_in_words(found.kinds), done=True)

    return routes


def _in_words(kinds: tuple[str, ...]) -> list[str]:
    return [_WORDS.get(kind, kind) for kind in kinds]


def _refused(error: Refused) -> Response:
    if error.code != "INVALID_LINK":
        raise error
    return page(
        "message.html",
        404,
        title="This link does not work",
        message=error.message,
        code=error.code,
        tone="problem",
    )
