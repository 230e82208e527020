"""Who somebody is: bearer tokens of people become accounts."""

from pydantic import TypeAdapter, ValidationError

from contracts.base import AccountId
from servicekit.auth import OidcVerifier
from servicekit.http import ApiError

_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(AccountId)
_MOST_CHARACTERS = 8192


class People:
    """Knows accounts by the bearer tokens (RFC 6750, RFC 9068) of an OpenID Connect issuer."""

    def __init__(self, verifier: OidcVerifier) -> None:
        self._verifier = verifier

    async def account_of(self, token: str) -> str:
        """The id of the account that a token was given to.

        Raises:
            ApiError: ``UNAUTHENTICATED``, or ``UNAVAILABLE`` when the issuer's keys cannot be had.
        """
        if len(token) > _MOST_CHARACTERS:
            raise ApiError("UNAUTHENTICATED", 401, "The token is too long to be one of this issuer.")
        claims = await self._verifier.verify(token)
        try:
            return _ACCOUNT_ID.validate_python(claims["sub"])
        except ValidationError:
            raise ApiError("UNAUTHENTICATED", 401, "Nobody has an account of the token's name.") from None
