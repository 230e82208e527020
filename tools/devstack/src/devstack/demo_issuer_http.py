"""The issuer's endpoints: discovery, keys, sign-in page, tokens, sign-out."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus, urlencode, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel

from devstack.demo_http import demo_app, page
from devstack.issuer import TOKEN_SECONDS, Client, IssuerServer
from servicekit.http import ApiError

_CODE_SECONDS: Final = 60
_MAX_CODES: Final = 1000
_CHALLENGE_CHARACTERS: Final = 43  # base64url of a SHA-256, RFC 7636 section 4.2
_CARRIED: Final = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)


class _OAuthError(Exception):
    """A refusal of RFC 6749: ``code`` is one of its error codes."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code, self.description, self.status = code, description, status


class _UnsafeRequest(Exception):
    """A sign-in request whose client or return address is unknown; the browser must not be redirected."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """What an authorization code stands for, until monotonic time ``ends``."""

    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    account_id: str
    scope: str
    ends: float


class DemoTokenRequest(BaseModel):
    """For whom a token is wanted."""

    email: str


def _one_each(values: Any) -> dict[str, str]:
    """Parameters given once; RFC 6749 section 3.1 refuses repeated ones, here they count as absent."""
    return {
        name: items[0]
        for name in values
        if len(items := values.getlist(name)) == 1 and isinstance(items[0], str)
    }


class _Flow:
    """The authorization code flow of one issuer, with the codes it has given out."""

    def __init__(self, issuer: IssuerServer) -> None:
        self._issuer = issuer
        self._codes: dict[str, _Grant] = {}

    def client_of(self, asked: Mapping[str, str]) -> Client:
        """The client of a sign-in request, when both it and its return address are registered."""
        client = self._issuer.client(asked.get("client_id", ""))
        if client is None or asked.get("redirect_uri") not in client.redirect_uris:
            raise _UnsafeRequest
        return client

    def check(self, asked: Mapping[str, str]) -> None:
        """Refuse what this issuer does not do; raises `_OAuthError`."""
        if asked.get("response_type") != "code":
            raise _OAuthError("unsupported_response_type", "Only response_type=code is served.")
        if "openid" not in asked.get("scope", "").split():
            raise _OAuthError("invalid_scope", "The scope must contain openid.")
        if asked.get("code_challenge_method") != "S256":
            raise _OAuthError("invalid_request", "PKCE with code_challenge_method=S256 is required.")
        if len(asked.get("code_challenge", "")) != _CHALLENGE_CHARACTERS:
            raise _OAuthError("invalid_request", "The code_challenge is not a base64url SHA-256.")
        if not asked.get("state"):
            raise _OAuthError("invalid_request", "A state is required.")
        if asked.get("prompt") == "none":
            raise _OAuthError("login_required", "A person has to choose an account.")

    def grant(self, asked: Mapping[str, str], account_id: str) -> str:
        """A code, good once and for a minute, with which the client gets its tokens."""
        if self._issuer.account(account_id) is None:
            raise _OAuthError("access_denied", "There is no such demo account.")
        now = time.monotonic()
        self._codes = {code: grant for code, grant in self._codes.items() if grant.ends > now}
        if len(self._codes) >= _MAX_CODES:
            raise _OAuthError("temporarily_unavailable", "Too many sign-ins at once. Try again in a minute.")
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Grant(
            client_id=asked["client_id"],
            redirect_uri=asked["redirect_uri"],
            challenge=asked["code_challenge"],
            nonce=asked.get("nonce"),
            account_id=account_id,
            scope=asked["scope"],
            ends=now + _CODE_SECONDS,
        )
        return code

    def exchange(self, client: Client, asked: Mapping[str, str]) -> dict[str, Any]:
        """The token answer for a code; a code that is wrong in any way is used up all the same."""
        if asked.get("grant_type") != "authorization_code":
            raise _OAuthError("unsupported_grant_type", "Only grant_type=authorization_code is served.")
        grant = self._codes.pop(asked.get("code", ""), None)
        if (
            grant is None
            or grant.ends <= time.monotonic()
            or grant.client_id != client.client_id
            or grant.redirect_uri != asked.get("redirect_uri")
            or not hmac.compare_digest(grant.challenge, _challenge(asked.get("code_verifier", "")))
        ):
            raise _OAuthError("invalid_grant", "The code is unknown, used, too old, or not for this request.")
        return {
            "access_token": self._issuer.token(grant.account_id, client_id=client.client_id),
            "id_token": self._issuer.id_token(grant.account_id, client, grant.nonce),
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "scope": grant.scope,
        }

    def authenticated(self, request: Request, asked: Mapping[str, str]) -> Client:
        """The client that proved its secret, in the Authorization header or in the form."""
        client_id, secret = _basic(request.headers.get("authorization", "")) or (
            asked.get("client_id", ""),
            asked.get("client_secret", ""),
        )
        client = self._issuer.client(client_id)
        known = client.client_secret if client else ""
        if client is None or not hmac.compare_digest(known.encode(), secret.encode()):
            raise _OAuthError("invalid_client", "The client is unknown or its secret is wrong.", 401)
        return client


def _challenge(verifier: str) -> str:
    """The S256 challenge of a verifier, RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _basic(header: str) -> tuple[str, str] | None:
    """The id and secret of HTTP Basic, form-decoded as RFC 6749 section 2.3.1 wants."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise _OAuthError("invalid_client", "The Authorization header cannot be read.", 401) from None
    return unquote_plus(client_id), unquote_plus(secret)


def _back(url: str, **answer: str | None) -> Response:
    """Send the browser back to the client."""
    query = urlencode({name: value for name, value in answer.items() if value is not None})
    joint = "&" if urlsplit(url).query else "?"
    return RedirectResponse(f"{url}{joint}{query}" if query else url, 303)


def issuer_app(issuer: IssuerServer) -> FastAPI:
    """The application that serves ``issuer``."""
    app = demo_app("issuer", names=issuer.names)
    flow = _Flow(issuer)

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, _OAuthError)
        headers = {"WWW-Authenticate": 'Basic realm="issuer"'} if error.status == 401 else None
        return JSONResponse(
            {"error": error.code, "error_description": error.description}, error.status, headers
        )

    async def unsafe(_request: Request, _error: Exception) -> Response:
        return page("issuer_refused.html", 400)

    app.add_exception_handler(_OAuthError, refused)
    app.add_exception_handler(_UnsafeRequest, unsafe)

    @app.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        """OpenID Connect Discovery 1.0."""
        return {
            "issuer": issuer.url,
            "authorization_endpoint": f"{issuer.url}/authorize",
            "token_endpoint": f"{issuer.url}/token",
            "jwks_uri": f"{issuer.url}/jwks",
            "end_session_endpoint": f"{issuer.url}/end-session",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "profile", "email"],
            "claims_supported": ["sub", "name", "email", "email_verified"],
            "authorization_response_iss_parameter_supported": True,
        }

    @app.get("/jwks")
    async def jwks() -> dict[str, Any]:
        """The public keys."""
        return issuer.keys.public_jwks()

    @app.get("/", include_in_schema=False)
    async def start_page() -> Response:
        return page("issuer_home.html", accounts=issuer.accounts, url=issuer.url)

    @app.get("/authorize", include_in_schema=False)
    async def choose(request: Request) -> Response:
        asked = _one_each(request.query_params)
        flow.client_of(asked)
        try:
            flow.check(asked)
        except _OAuthError as error:
            return _refusal_to_client(asked, error)
        address = urlsplit(asked["redirect_uri"])
        # Browsers apply form-action to the redirect that follows the form, so the client's origin is named.
        policy = {"form-action": f"'self' {address.scheme}://{address.netloc}"}
        carried = {name: asked[name] for name in _CARRIED if name in asked}
        return page(
            "issuer_choose.html",
            200,
            policy,
            accounts=issuer.accounts,
            carried=carried,
            client=address.netloc,
        )

    @app.post("/authorize", include_in_schema=False)
    async def chosen(request: Request) -> Response:
        asked = _one_each(await request.form())
        flow.client_of(asked)
        try:
            flow.check(asked)
            code = flow.grant(asked, asked.get("account", ""))
        except _OAuthError as error:
            return _refusal_to_client(asked, error)
        return _back(asked["redirect_uri"], code=code, state=asked["state"], iss=issuer.url)

    def _refusal_to_client(asked: Mapping[str, str], error: _OAuthError) -> Response:
        return _back(
            asked["redirect_uri"],
            error=error.code,
            error_description=error.description,
            state=asked.get("state"),
            iss=issuer.url,
        )

    @app.post("/token")
    async def token(request: Request) -> dict[str, Any]:
        """Exchange a code for tokens."""
        asked = _one_each(await request.form())
        return flow.exchange(flow.authenticated(request, asked), asked)

    @app.post("/demo/token")
    async def demo_token(wanted: DemoTokenRequest) -> dict[str, Any]:
        """A bearer token for a demo account, without any proof."""
        account = issuer.account_of(wanted.email)
        if account is None:
            addresses = [email for known in issuer.accounts for email in known.verified_emails]
            raise ApiError(
                "ACCOUNT_NOT_FOUND",
                404,
                f"There is no demo account with this address. Those there are: {', '.join(addresses)}.",
            )
        return {
            "access_token": issuer.token(account.account_id),
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
        }

    @app.get("/end-session", include_in_schema=False)
    async def end_session(request: Request) -> Response:
        asked = _one_each(request.query_params)
        client = issuer.client(asked.get("client_id", ""))
        address = asked.get("post_logout_redirect_uri", "")
        if client is not None and address in client.post_logout_redirect_uris:
            return _back(address, state=asked.get("state"))
        return page("issuer_signed_out.html")

    return app
