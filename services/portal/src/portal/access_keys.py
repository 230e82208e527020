"""Access keys: an id and a secret with which a script signs requests as its account.

The secret is shown once. It is kept so that signatures can be computed, encrypted (AES-256-GCM) by a key that
comes from a setting: whoever has the database alone has no secret, and cannot move one to another key or
account.
"""

import base64
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from portal.errors import AccessKeyNotFound, LimitReached
from portal.sessions import lock_account, unavailable_when_gone
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

MAX_ENABLED: Final = 2
"""Enabled keys of one account, as at remote.it."""
MAX_KEYS: Final = 10
"""All keys of one account."""

_ID_ALPHABET: Final = string.ascii_uppercase + string.digits
_ID_LENGTH: Final = 20
_ID: Final = re.compile(r"[A-Z0-9]{20}")
# Scripts hold the decoded secret in a shell variable, which loses NUL and a line feed at the end. 33 bytes
# are base64 without padding, as remote.it's are: scripts that split a line at each "=" lose nothing.
_SECRET_BYTES: Final = bytes(byte for byte in range(256) if byte not in b"\0\n")
_SECRET_LENGTH: Final = 33
_NONCE_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key as its owner sees it; ``last_used_at`` is at most a minute old."""

    key_id: str
    enabled: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """A key that was just made. ``secret`` is base64 and is told this once."""

    key_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An enabled key, for checking signatures. ``use_unrecorded``: its last use on record is a minute old."""

    account_id: str
    secret: bytes
    use_unrecorded: bool


class SecretBox:
    """Encrypts secrets at rest with a key derived (HKDF, RFC 5869) from a setting."""

    def __init__(self, setting: str) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"latchkey.access-key.v1").derive(
            setting.encode()
        )
        self._cipher = AESGCM(derived)

    def seal(self, secret: bytes, *, key_id: str, account_id: str) -> bytes:
        """The encrypted secret, which opens for this key of this account only."""
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        return nonce + self._cipher.encrypt(nonce, secret, _bound_to(key_id, account_id))

    def open(self, sealed: bytes, *, key_id: str, account_id: str) -> bytes:
        """The secret.

        Raises:
            cryptography.exceptions.InvalidTag: encrypted under another setting, or altered.
        """
        nonce, encrypted = sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:]
        return self._cipher.decrypt(nonce, encrypted, _bound_to(key_id, account_id))


def _bound_to(key_id: str, account_id: str) -> bytes:
    return f"{key_id}\n{account_id}".encode()


class AccessKeys:
    """The table of access keys. Every method raises `Unavailable` when the database is gone."""

    def __init__(self, pool: pg.Pool, box: SecretBox) -> None:
        self._pool, self._box = pool, box
        self._sql = pg.load_queries("portal")

    async def of(self, account_id: str) -> Sequence[AccessKey]:
        """The keys of an account, oldest first."""
        with unavailable_when_gone():
            rows = await self._pool.fetch(self._sql["list_access_keys"], account_id)
        return [_access_key(row) for row in rows]

    async def create(self, account_id: str) -> NewAccessKey:
        """Make an enabled key.

        Raises:
            LimitReached: the account has `MAX_ENABLED` enabled keys, or `MAX_KEYS` in all.
            AccountDeletedError: it is deleted.
        """
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        secret = bytes(secrets.choice(_SECRET_BYTES) for _ in range(_SECRET_LENGTH))
        sealed = self._box.seal(secret, key_id=key_id, account_id=account_id)
        with unavailable_when_gone():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_account(connection, self._sql, account_id)
                await self._check_limits(connection, account_id, new=True)
                await connection.execute(self._sql["create_access_key"], key_id, account_id, sealed)
        return NewAccessKey(key_id, base64.b64encode(secret).decode())

    async def set_enabled(self, account_id: str, key_id: str, *, enabled: bool) -> AccessKey:
        """Enable or disable a key; what it is already is a success.

        Raises:
            AccessKeyNotFound: the account has no such key.
            LimitReached: the account has `MAX_ENABLED` enabled keys already.
            AccountDeletedError: it is deleted.
        """
        _check_id(key_id)
        with unavailable_when_gone():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_account(connection, self._sql, account_id)
                was: bool | None = await connection.fetchval(
                    self._sql["find_access_key_of_account"], key_id, account_id
                )
                if was is False and enabled:
                    await self._check_limits(connection, account_id, new=False)
                row = await connection.fetchrow(
                    self._sql["set_access_key_enabled"], key_id, account_id, enabled
                )
        if row is None:
            raise AccessKeyNotFound
        return _access_key(row)

    async def delete(self, account_id: str, key_id: str) -> None:
        """Delete a key for good.

        Raises:
            AccessKeyNotFound: the account has no such key.
        """
        _check_id(key_id)
        with unavailable_when_gone():
            deleted = await self._pool.fetchval(self._sql["delete_access_key"], key_id, account_id)
        if not deleted:
            raise AccessKeyNotFound

    async def find(self, key_id: str) -> SigningKey | None:
        """The key of that id, or None when there is none that is enabled and can be read."""
        if not _ID.fullmatch(key_id):
            return None
        with unavailable_when_gone():
            row = await self._pool.fetchrow(self._sql["find_enabled_access_key"], key_id)
        if row is None:
            return None
        account_id: str = row["account_id"]
        try:
            secret = self._box.open(row["sealed_secret"], key_id=key_id, account_id=account_id)
        except InvalidTag:
            log.error("access_key_unreadable", account_id=account_id)  # ACCESS_KEY_SECRET was changed
            return None
        return SigningKey(account_id, secret, row["use_unrecorded"])

    async def record_use(self, key_id: str) -> None:
        """Note that a key was used now, unless that was noted within the last minute."""
        with unavailable_when_gone():
            await self._pool.execute(self._sql["record_use_of_access_key"], key_id)

    async def _check_limits(self, connection: pg.Connection, account_id: str, *, new: bool) -> None:
        """Whether one more key may be enabled; the caller holds the lock, so that nobody else counts."""
        counts = await connection.fetchrow(self._sql["count_access_keys"], account_id)
        assert counts is not None  # an aggregate always has its row
        if counts["enabled"] >= MAX_ENABLED:
            raise LimitReached(
                f"At most {MAX_ENABLED} access keys can be enabled. Disable or delete one first."
            )
        if new and counts["total"] >= MAX_KEYS:
            raise LimitReached(f"At most {MAX_KEYS} access keys can be kept. Delete one first.")


def _check_id(key_id: str) -> None:
    if not _ID.fullmatch(key_id):
        raise AccessKeyNotFound


def _access_key(row: Any) -> AccessKey:
    return AccessKey(row["key_id"], row["enabled"], row["created_at"], row["last_used_at"])
