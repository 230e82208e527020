"""Accounts that their registry has deleted: whoever still acts for one is refused."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request

from servicekit.auth import InternalCallers
from servicekit.http import ApiError

REMEMBERED_SECONDS: Final = 5.0
"""How long it is remembered that an account is not deleted; that it is, is asked again each time."""

_MOST_REMEMBERED: Final = 100_000


class AccountDeletedError(ApiError):
    """The registry has deleted the account that is acted for."""

    def __init__(self) -> None:
        super().__init__(
            "ACCOUNT_DELETED",
            403,
            "This account was deleted. Nobody can use it until it is made anew where accounts are kept.",
        )


class DeletedAccounts:
    """Knows them, as far as this service does. ``is_deleted`` reads it of one account."""

    def __init__(self, is_deleted: Callable[[str], Awaitable[bool]]) -> None:
        self._is_deleted = is_deleted
        self._good_until: dict[str, float] = {}

    async def refuse(self, account_id: str) -> None:
        """Return when the account is not deleted.

        Raises:
            AccountDeletedError: it is.
        """
        now = time.monotonic()
        good_until = self._good_until  # what is told while the question is on its way outdates the answer
        if good_until.get(account_id, 0.0) > now:
            return
        if await self._is_deleted(account_id):
            raise AccountDeletedError
        if len(good_until) >= _MOST_REMEMBERED:
            good_until.clear()
        good_until[account_id] = now + REMEMBERED_SECONDS

    def forget(self) -> None:
        """Some account may have been deleted: remember nothing from before."""
        self._good_until = {}


class LivingCallers:
    """A FastAPI dependency: the acting account's id, as of `InternalCallers`, unless it was deleted."""

    def __init__(self, callers: InternalCallers, deleted: DeletedAccounts) -> None:
        self._callers, self._deleted = callers, deleted

    async def __call__(self, request: Request) -> str:
        """The account; raises ApiError ``UNAUTHENTICATED``, `AccountDeletedError`."""
        account_id = self._callers(request)
        await self._deleted.refuse(account_id)
        return account_id
