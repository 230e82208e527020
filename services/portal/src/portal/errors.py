"""What the portal refuses. Every code stands in docs/errors.md.

    ApiError                    servicekit: code, status, message
    ├── Refused                 another service's refusal, passed on with its code
    ├── Unavailable             UNAVAILABLE: another service or the database does not answer
    ├── InvalidRequest          INVALID_REQUEST: an argument that cannot be used
    ├── LimitReached            LIMIT_REACHED: more of something than one account may have
    ├── AskedTooOften           RATE_LIMITED: more GraphQL requests in a minute than one account may send
    ├── AccessKeyNotFound       ACCESS_KEY_NOT_FOUND: no such key among the caller's
    ├── InvalidPosition         INVALID_POSITION: a consistency token that is none
    ├── InvalidJson             INVALID_JSON: the body of a GraphQL request is not what it must be
    ├── InvalidNext             INVALID_NEXT: after sign-in nobody is sent to another site
    ├── SignInFailed            SIGN_IN_FAILED: the issuer's answer cannot be used
    ├── Forbidden               FORBIDDEN: the caller sees the thing, but may not do this with it
    ├── NothingHere             NOT_FOUND: no page and no API at this address
    ├── MethodNotAllowed        METHOD_NOT_ALLOWED: GraphQL by another method than POST
    └── CsrfRefused             CSRF_REFUSED: a form that did not come from our own page

The docstring is the message, unless the raiser knows better.
"""

import inspect
from collections.abc import Mapping
from typing import ClassVar

from servicekit.http import ApiError


class _Coded(ApiError):
    default_code: ClassVar[str]
    default_status: ClassVar[int]

    def __init__(self, message: str | None = None, *, details: Mapping[str, object] | None = None) -> None:
        text = message or " ".join((inspect.getdoc(type(self)) or "").split())
        super().__init__(self.default_code, self.default_status, text, details=details)


class Refused(ApiError):
    """Another service's refusal: its ``code``, ``status``, ``message`` and ``details``."""


class Unavailable(_Coded):
    """A part of the service does not answer at the moment. Nothing is lost; try again."""

    default_code, default_status = "UNAVAILABLE", 503


class InvalidRequest(_Coded):
    """An argument cannot be used."""

    default_code, default_status = "INVALID_REQUEST", 400


class LimitReached(_Coded):
    """There are as many as may be."""

    default_code, default_status = "LIMIT_REACHED", 400


class AskedTooOften(_Coded):
    """This account has sent too many requests in a minute. Wait as long as Retry-After says."""

    default_code, default_status = "RATE_LIMITED", 429

    def __init__(self, seconds: int) -> None:
        super().__init__(details={"retry_after_seconds": seconds})
        self.headers = {"Retry-After": str(seconds)}


class AccessKeyNotFound(_Coded):
    """You have no access key of this id. List yours with accessKeys."""

    default_code, default_status = "ACCESS_KEY_NOT_FOUND", 404


class InvalidPosition(_Coded):
    """The header Latchkey-Position must be sent as it was given."""

    default_code, default_status = "INVALID_POSITION", 400


class InvalidJson(_Coded):
    """The body must be a JSON object with the key "query" (a text that is not empty), and if needed
    "variables" (an object) and "operationName" (a text). One request holds one document.
    """

    default_code, default_status = "INVALID_JSON", 400


class InvalidNext(_Coded):
    """The address to continue at after signing in must be a path on this site, such as /invitations/…"""

    default_code, default_status = "INVALID_NEXT", 400


class SignInFailed(_Coded):
    """This sign-in cannot be finished: it was begun in another browser, too long ago, or is finished already.
    Please sign in again.
    """

    default_code, default_status = "SIGN_IN_FAILED", 400


class Forbidden(_Coded):
    """You may not do this."""

    default_code, default_status = "FORBIDDEN", 403


class NothingHere(_Coded):
    """There is nothing at this address."""

    default_code, default_status = "NOT_FOUND", 404


class MethodNotAllowed(_Coded):
    """Send GraphQL by POST, as JSON: {"query": "…"}."""

    default_code, default_status = "METHOD_NOT_ALLOWED", 405


class CsrfRefused(_Coded):
    """This form was not sent from a page of yours, or you have signed in anew since. Nothing was changed;
    go back, load the page again and repeat what you did.
    """

    default_code, default_status = "CSRF_REFUSED", 403
