"""The portal's two cookies: the session, and a sign-in that has begun."""

from typing import Final

from fastapi import Request, Response

from portal.sign_in import ATTEMPT_SECONDS, Attempt

_SESSION: Final = "latchkey_session"
_ATTEMPT: Final = "latchkey_sign_in"


class Cookies:
    """Reads and sets them: HttpOnly, SameSite=Lax, for the whole site.

    Over https they are Secure and carry the ``__Host-`` prefix, so that no other host of the domain can set
    them.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._prefix = "__Host-" if secure else ""

    def session_id(self, request: Request) -> str | None:
        """The session's id, if the browser sent one."""
        return request.cookies.get(self._prefix + _SESSION)

    def set_session(self, response: Response, session_id: str, max_age: int) -> None:
        """Sign the browser in."""
        self._set(response, _SESSION, session_id, max_age)

    def clear_session(self, response: Response) -> None:
        """Sign the browser out."""
        self._set(response, _SESSION, "", 0)

    def attempt(self, request: Request) -> Attempt:
        """The sign-in that this browser has begun; raises SignInFailed when there is none."""
        return Attempt.from_cookie(request.cookies.get(self._prefix + _ATTEMPT))

    def set_attempt(self, response: Response, attempt: Attempt) -> None:
        """Remember a sign-in that begins."""
        self._set(response, _ATTEMPT, attempt.to_cookie(), ATTEMPT_SECONDS)

    def clear_attempt(self, response: Response) -> None:
        """Forget it: an answer is taken once."""
        self._set(response, _ATTEMPT, "", 0)

    def _set(self, response: Response, name: str, value: str, max_age: int) -> None:
        response.set_cookie(
            self._prefix + name,
            value,
            max_age=max_age,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )
