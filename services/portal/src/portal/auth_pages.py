"""Signing in and out in the browser."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from portal.cookies import Cookies
from portal.errors import CsrfRefused, SignInFailed
from portal.metrics import SIGN_INS
from portal.rendering import PageRoute
from portal.sessions import Sessions, csrf_matches
from portal.sign_in import Attempt, SignIn, local_path
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)


def router(sessions: Sessions, cookies: Cookies, sign_in: SignIn) -> APIRouter:
    """The routes below ``/auth``."""
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)

    @routes.get("/auth/login")
    async def login(next: str = "/") -> Response:
        """Send the browser to the issuer; afterwards it continues at ``next``, a path on this site."""
        attempt = Attempt.begin(next)
        answer = RedirectResponse(await sign_in.address(attempt), 303)
        cookies.set_attempt(answer, attempt)
        return answer

    @routes.get("/auth/callback")
    async def callback(
        request: Request, state: str = "", code: str = "", iss: str | None = None, error: str | None = None
    ) -> Response:
        """Take the issuer's answer, once, in the browser that began."""
        try:
            attempt = cookies.attempt(request)
            if error is not None:
                log.info("sign_in_declined")
                raise SignInFailed("You were not signed in: the sign-in service says that it was declined.")
            account_id = await sign_in.finish(attempt, state=state, code=code, issuer=iss)
            session_id = await sessions.create(account_id)
            if (former := cookies.session_id(request)) is not None:
                await sessions.end(former)
        except ApiError:
            SIGN_INS.labels(outcome="failed").inc()
            raise
        SIGN_INS.labels(outcome="ok").inc()
        log.info("signed_in", account_id=account_id)
        answer = RedirectResponse(attempt.next_path, 303)
        cookies.set_session(answer, session_id, int(sessions.lifetime.total_seconds()))
        cookies.clear_attempt(answer)
        return answer

    @routes.post("/auth/logout")
    async def logout(
        request: Request, csrf: Annotated[str, Form()] = "", next: Annotated[str, Form()] = "/"
    ) -> Response:
        """End the session. The issuer's own session, if it keeps one, stays."""
        path = local_path(next)
        session_id = cookies.session_id(request)
        if session_id is not None and await sessions.account_of(session_id) is not None:
            if not csrf_matches(session_id, csrf):
                raise CsrfRefused
            await sessions.end(session_id)
        answer = RedirectResponse(path, 303)
        cookies.clear_session(answer)
        return answer

    return routes
