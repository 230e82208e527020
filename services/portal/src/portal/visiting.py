"""Who looks at a page: the account that the browser's session names."""

from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import Request

from portal.cookies import Cookies
from portal.errors import CsrfRefused
from portal.sessions import Sessions, csrf_matches, csrf_token


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page: an account that is signed in, and the token its forms carry."""

    account_id: str
    csrf: str


def sign_in_address(path: str) -> str:
    """Where signing in begins that leads back to ``path``."""
    return f"/auth/login?{urlencode({'next': path})}"


class Visitors:
    """Tells them apart by their sessions."""

    def __init__(self, sessions: Sessions, cookies: Cookies) -> None:
        self._sessions, self._cookies = sessions, cookies

    async def of(self, request: Request) -> Visitor | None:
        """Who is signed in; raises `Unavailable` when the database is gone."""
        session_id = self._cookies.session_id(request)
        account_id = await self._sessions.account_of(session_id) if session_id is not None else None
        if session_id is None or account_id is None:
            return None
        return Visitor(account_id, csrf_token(session_id))

    def check_csrf(self, request: Request, given: str) -> None:
        """Refuse a form that carries another token than the session's; raises `CsrfRefused`."""
        if not csrf_matches(self._cookies.session_id(request) or "", given):
            raise CsrfRefused
