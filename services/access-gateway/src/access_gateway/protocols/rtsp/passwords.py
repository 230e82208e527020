"""Short passwords for players that cannot send a long one.

ffmpeg, and what is built on it, cuts user and password of an RTSP address to 127 characters; a token is
longer.
A password stands for an account as a token does, but only at one service, and not for long. It is known to
this process only, which keeps its hash.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import Final, NamedTuple

LIVES_SECONDS: Final = 3600.0
_MOST: Final = 100_000


class _Given(NamedTuple):
    account_id: str
    service_id: str
    ends: float


class StreamPasswords:
    """Gives passwords, and knows whose they are. The oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self._given: OrderedDict[bytes, _Given] = OrderedDict()

    def give(self, account_id: str, service_id: str) -> str:
        """A new password, good for an hour: 22 characters that need no escape in an address."""
        password = secrets.token_urlsafe(16)
        self._given[_digest(password)] = _Given(account_id, service_id, time.monotonic() + LIVES_SECONDS)
        while len(self._given) > _MOST:
            self._given.popitem(last=False)
        return password

    def account_of(self, password: str, service_id: str) -> str | None:
        """Whose it is; None: nobody's at this service, or no longer."""
        given = self._given.get(_digest(password))
        if given is None or given.service_id != service_id or given.ends <= time.monotonic():
            return None
        return given.account_id


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()
