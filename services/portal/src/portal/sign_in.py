"""Sign-in at the issuer: OpenID Connect authorization code flow with PKCE (RFC 7636, S256), state and nonce.

What has to be remembered between leaving and coming back lies in a short-lived cookie of the same browser,
so that an answer that another browser began is refused. The issuer accepts each code once.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import asdict, dataclass
from typing import Any, Final, Self
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from contracts.base import AccountId
from portal.errors import InvalidNext, SignInFailed, Unavailable
from servicekit.auth import OidcVerifier
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

ATTEMPT_SECONDS: Final = 600
_MAX_NEXT: Final = 2000
_ACCOUNT: Final = TypeAdapter[str](AccountId)
_PATH: Final = re.compile(r"^/(?![/\\])[\x21-\x5b\x5d-\x7e]*$")
"""A path on this site: one slash, then no second one and no backslash, which browsers read as one."""


def local_path(text: str) -> str:
    """``text`` when it is a path on this site.

    Raises:
        InvalidNext: it is anything else; nobody is sent to another site from here.
    """
    parts = urlsplit(text) if len(text) <= _MAX_NEXT and _PATH.match(text) else None
    if parts is None or parts.scheme or parts.netloc:
        raise InvalidNext
    return text


@dataclass(frozen=True, slots=True)
class Attempt:
    """One begun sign-in, as the browser's cookie remembers it."""

    state: str
    nonce: str
    verifier: str
    next_path: str

    @classmethod
    def begin(cls, next_path: str) -> Self:
        """A new one, to continue at ``next_path``; raises `InvalidNext`."""
        return cls(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            next_path=local_path(next_path),
        )

    def to_cookie(self) -> str:
        """The cookie's value."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")

    @classmethod
    def from_cookie(cls, value: str | None) -> Self:
        """Read the cookie; raises `SignInFailed` when there is none or it is none of ours."""
        try:
            fields: dict[str, Any] = json.loads(
                base64.urlsafe_b64decode((value or "") + "=" * (-len(value or "") % 4))
            )
            attempt = cls(**{name: str(fields[name]) for name in cls.__slots__})
            local_path(attempt.next_path)
        except (binascii.Error, ValueError, KeyError, TypeError, InvalidNext):
            raise SignInFailed from None
        return attempt

    @property
    def challenge(self) -> str:
        """The S256 code challenge of the verifier."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class SignIn:
    """The portal as a client of the issuer. ``id_tokens`` verifies tokens whose audience is this client."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        id_tokens: OidcVerifier,
        *,
        issuer: str,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
    ) -> None:
        self._client, self._id_tokens, self._issuer = client, id_tokens, issuer
        self._client_id, self._client_secret = client_id, client_secret
        self._redirect_uri = redirect_uri

    async def address(self, attempt: Attempt) -> str:
        """Where to send the browser; raises ApiError ``UNAVAILABLE`` when the issuer does not answer."""
        endpoint = (await self._id_tokens.discovery()).authorization_endpoint
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._client_id,
                "redirect_uri": self._redirect_uri,
                "scope": "openid email profile",
                "state": attempt.state,
                "nonce": attempt.nonce,
                "code_challenge": attempt.challenge,
                "code_challenge_method": "S256",
            }
        )
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{query}"

    async def finish(self, attempt: Attempt, *, state: str, code: str, issuer: str | None) -> str:
        """The account that signed in, from the issuer's answer.

        ``issuer`` is the answer's ``iss`` (RFC 9207), compared when there is one.

        Raises:
            SignInFailed: another browser's answer, a code used or too old, or an ID token that is not for us.
            ApiError: ``UNAVAILABLE`` when the issuer does not answer.
        """
        if not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise SignInFailed
        if not code or (issuer is not None and issuer != self._issuer):
            raise SignInFailed
        id_token = await self._exchange(attempt, code)
        try:
            claims = await self._id_tokens.verify(id_token)
            if not hmac.compare_digest(attempt.nonce.encode(), str(claims.get("nonce", "")).encode()):
                raise SignInFailed
            return _ACCOUNT.validate_python(claims["sub"])
        except ValidationError:
            raise SignInFailed("The account's id cannot be used here.") from None
        except ApiError as error:
            if error.code == "UNAUTHENTICATED":
                raise SignInFailed from None
            raise

    async def _exchange(self, attempt: Attempt, code: str) -> str:
        endpoint = (await self._id_tokens.discovery()).token_endpoint
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
        }
        # RFC 6749 section 2.3.1: both parts are form-encoded before they become HTTP Basic.
        credentials = (quote_plus(self._client_id), quote_plus(self._client_secret))
        try:
            answer = await self._client.post(endpoint, data=form, auth=credentials)
        except httpx.HTTPError as error:
            log.warning("issuer_unreachable", error=type(error).__name__)
            raise Unavailable from error
        if answer.is_server_error:
            log.warning("issuer_failing", status=answer.status_code)
            raise Unavailable
        try:
            body: dict[str, Any] = answer.json()
            if answer.is_success:
                return str(body["id_token"])
            reason = str(body.get("error", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            reason = "unreadable"
        log.warning("code_refused", status=answer.status_code, reason=reason)
        raise SignInFailed
