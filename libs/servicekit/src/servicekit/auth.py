"""Tokens: bearer tokens of an OpenID Connect issuer, and the 60-second tokens between services."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httpx
from fastapi import Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, KeySetSerialization

from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

INTERNAL_SECONDS = 60
_LEEWAY_SECONDS = 5
_REFETCH_SECONDS, _RETRY_SECONDS = 10.0, 1.0


def _unauthenticated(message: str) -> ApiError:
    return ApiError("UNAUTHENTICATED", 401, message, headers={"WWW-Authenticate": "Bearer"})


def bearer_token(request: Request) -> str:
    """The token of the Authorization header; raises ApiError ``UNAUTHENTICATED`` when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthenticated("Send an Authorization header with a bearer token.")
    return token.strip()


class InternalTokens:
    """Makes the tokens with which one service asks another for an account (ES256, 60 s)."""

    def __init__(self, private_jwk: str, issuer: str) -> None:
        self._key = ECKey.import_key(json.loads(private_jwk))
        self._issuer = issuer

    def mint(self, *, audience: str, account_id: str) -> str:
        """A token that lets ``audience`` act for ``account_id``."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "sub": account_id,
            "iat": now,
            "exp": now + INTERNAL_SECONDS,
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key)


class InternalCallers:
    """Knows who may name an actor: a FastAPI dependency that returns the acting account's id.

    ``jwks`` holds the public keys of trusted callers; ``audience`` is this service's own name.
    """

    def __init__(self, jwks: str, audience: str) -> None:
        self._keys = KeySet.import_key_set(json.loads(jwks))
        self._claims = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )

    def __call__(self, request: Request) -> str:
        """The account that the caller acts for; raises ApiError ``UNAUTHENTICATED``."""
        return str(_verified(bearer_token(request), self._keys, ["ES256"], self._claims)["sub"])


def _verified(
    token: str, keys: KeySet, algorithms: Sequence[str], registry: jwt.JWTClaimsRegistry
) -> Mapping[str, Any]:
    try:
        decoded = jwt.decode(token, keys, algorithms=list(algorithms))
        registry.validate(decoded.claims)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:  # whatever strangers send
        log.info("token_refused", error=type(error).__name__)
        raise _unauthenticated(
            "The token is not valid here: wrong issuer, audience or signature, or expired."
        ) from None
    return decoded.claims


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an issuer says of itself (OpenID Connect Discovery 1.0)."""

    jwks_uri: str
    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str | None


class OidcVerifier:
    """Verifies bearer tokens of one issuer (OpenID Connect Core 1.0, RFC 9068) against its published keys.

    ``asked_at`` is where this process reaches the issuer when that is not where people do: its documents and
    tokens are fetched there, while tokens name, and browsers are sent to, ``issuer``.

    Keys are fetched when first needed, and again, at most every 10 s, for a key id that is not known; a token
    whose key is known never waits for that.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        client: httpx.AsyncClient,
        asked_at: str | None = None,
    ) -> None:
        self._issuer, self._algorithms, self._client = issuer, tuple(algorithms), client
        self._public, self._asked_at = issuer.rstrip("/"), (asked_at or issuer).rstrip("/")
        self._claims = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        self._discovery: Discovery | None = None
        self._keys: KeySet | None = None
        self._not_before = 0.0
        self._lock = asyncio.Lock()

    async def discovery(self) -> Discovery:
        """The issuer's endpoints; raises ApiError ``UNAVAILABLE`` when it does not answer."""
        if self._discovery is None:
            document = await self._get(f"{self._asked_at}/.well-known/openid-configuration")
            if document.get("issuer") != self._issuer:
                raise ApiError(
                    "UNAVAILABLE", 503, "The sign-in service names another issuer than the one configured."
                )
            self._discovery = Discovery(
                jwks_uri=self._from_here(str(document["jwks_uri"])),
                authorization_endpoint=str(document["authorization_endpoint"]),
                token_endpoint=self._from_here(str(document["token_endpoint"])),
                end_session_endpoint=document.get("end_session_endpoint"),
            )
        return self._discovery

    def _from_here(self, url: str) -> str:
        """An endpoint that this process calls itself. One that the issuer has elsewhere stays as it is."""
        return self._asked_at + url[len(self._public) :] if url.startswith(f"{self._public}/") else url

    async def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of a valid token.

        Raises:
            ApiError: ``UNAUTHENTICATED`` (bad token), ``UNAVAILABLE`` (the issuer's keys cannot be had).
        """
        keys = await self._keys_for(token)
        return _verified(token, keys, self._algorithms, self._claims)

    async def _keys_for(self, token: str) -> KeySet:
        key_id = _key_id(token)
        if self._keys is not None and self._knows(key_id):
            return self._keys
        async with self._lock:
            if not self._knows(key_id) and time.monotonic() >= self._not_before:
                self._not_before = time.monotonic() + _RETRY_SECONDS
                document = await self._get((await self.discovery()).jwks_uri)
                self._keys = _key_set(document)
                self._not_before = time.monotonic() + _REFETCH_SECONDS
        if self._keys is None:
            raise _unavailable()
        return self._keys

    def _knows(self, key_id: str | None) -> bool:
        return self._keys is not None and any(key.kid == key_id for key in self._keys.keys)

    async def _get(self, url: str) -> Mapping[str, Any]:
        try:
            answer = await self._client.get(url)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            log.warning("issuer_unreachable", error=type(error).__name__)
            raise _unavailable() from None


def _key_set(document: Mapping[str, Any]) -> KeySet:
    """The keys of an issuer; those of kinds that are not known here are left out (RFC 7517, section 5).

    Raises:
        ApiError: ``UNAVAILABLE``, when there is none.
    """
    published, found = document.get("keys"), KeySet([])
    for key in cast("list[Any]", published) if isinstance(published, list) else []:
        try:
            found.keys += KeySet.import_key_set(KeySetSerialization(keys=[key])).keys
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.info("issuer_key_left_out", error=type(error).__name__)
    if not found.keys:
        log.warning("issuer_without_keys")
        raise _unavailable()
    return found


def _unavailable() -> ApiError:
    return ApiError(
        "UNAVAILABLE", 503, "The sign-in service does not answer. Try again.", headers={"Retry-After": "2"}
    )


def _key_id(token: str) -> str | None:
    head = token.split(".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        raise _unauthenticated("The token is not a JSON Web Token.") from None
    key_id = header.get("kid") if isinstance(header, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - untrusted JSON
    return key_id if isinstance(key_id, str) else None
