"""Who sends a request: a bearer token, a signature made with an access key, or the browser's session.

A session counts only where neither of the others is sent. Browsers add its cookie by themselves, so whatever
could change something must carry the session's CSRF token too, which no other site can know.
"""

import time
from collections.abc import Sequence
from typing import Final

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from contracts.base import AccountId
from portal.access_keys import AccessKeys
from portal.cookies import Cookies
from portal.errors import CsrfRefused
from portal.sessions import Sessions, csrf_matches
from portal.signatures import RequestHead, SignatureRefusedError, read_claim
from servicekit.auth import OidcVerifier, bearer_token
from servicekit.deleted import AccountDeletedError, DeletedAccounts
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

CSRF_HEADER: Final = "Latchkey-CSRF"
_ACCOUNT: Final = TypeAdapter[str](AccountId)
_CHALLENGE: Final = 'Bearer, Signature headers="(request-target) host date content-type"'


class Authentication:
    """Knows the account behind a request; ``hosts`` are the names that may be signed as its host."""

    def __init__(
        self,
        verifier: OidcVerifier,
        access_keys: AccessKeys,
        hosts: Sequence[str],
        sessions: Sessions,
        cookies: Cookies,
        *,
        deleted: DeletedAccounts,
    ) -> None:
        self._verifier, self._keys, self._hosts = verifier, access_keys, tuple(hosts)
        self._deleted = deleted
        self._sessions, self._cookies = sessions, cookies

    async def account_of(self, request: Request, *, only_looks: bool = False) -> str:
        """The account that sends ``request``. A signed request's body is read, and not looked into, here.

        ``only_looks``: it can change nothing, so that a session needs no CSRF token.

        Raises:
            ApiError: ``UNAUTHENTICATED``, ``CSRF_REFUSED``, ``UNAVAILABLE`` (what is needed to find out
                cannot be had).
        """
        try:
            account_id = await self._signer(request)
        except SignatureRefusedError as error:
            log.info("signature_refused")
            raise ApiError(
                "UNAUTHENTICATED", 401, error.message, headers={"WWW-Authenticate": _CHALLENGE}
            ) from None
        if account_id is not None:
            return account_id
        session_id = self._cookies.session_id(request)
        if session_id is None or "authorization" in request.headers:
            return await self._bearer(request)
        return await self._signed_in(request, session_id, only_looks=only_looks)

    async def _signed_in(self, request: Request, session_id: str, *, only_looks: bool) -> str:
        account_id = await self._sessions.account_of(session_id)
        if account_id is None:
            raise ApiError("UNAUTHENTICATED", 401, "Your sign-in has ended. Sign in again.")
        if not only_looks and not csrf_matches(session_id, request.headers.get(CSRF_HEADER, "")):
            raise CsrfRefused
        return account_id

    async def _signer(self, request: Request) -> str | None:
        claim = read_claim(_head(request), now=time.time(), hosts=self._hosts)
        if claim is None:
            return None
        key = await self._keys.find(claim.key_id)
        claim.verify(key.secret if key is not None else None)
        assert key is not None  # or verify had refused
        claim.check_body(await request.body())
        if key.use_unrecorded:
            await self._keys.record_use(claim.key_id)
        return key.account_id

    async def _bearer(self, request: Request) -> str:
        claims = await self._verifier.verify(bearer_token(request))
        try:
            account_id = _ACCOUNT.validate_python(claims["sub"])
            await self._deleted.refuse(account_id)
        except ValidationError:
            raise ApiError(
                "UNAUTHENTICATED", 401, "The token names an account that cannot be one here."
            ) from None
        except AccountDeletedError:
            raise ApiError("UNAUTHENTICATED", 401, "The token's account was deleted.") from None
        return account_id


def _head(request: Request) -> RequestHead:
    """The request as it was sent: path and query before anything is decoded."""
    query: bytes = request.scope["query_string"]
    target: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
    return RequestHead(request.method, target, request.headers.raw)
