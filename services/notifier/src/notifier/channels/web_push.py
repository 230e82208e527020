"""Web Push: a message to a browser, encrypted for it (RFC 8030, 8291, 8188), signed by us (RFC 8292)."""

import base64
import binascii
import json
import os
import time
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from notifier.channels.answers import deferred, post
from notifier.errors import DeferredError, RefusedError

Urgency = Literal["very-low", "low", "normal", "high"]

MAX_TTL: Final = 28 * 24 * 3600
MAX_PAYLOAD: Final = 3993
"""What fits into the 4,096 bytes that every push service takes (RFC 8291, section 4)."""

_RECORD_SIZE: Final = 4096
_SIGNATURE_SECONDS: Final = 12 * 3600
_POINT: Final = 65


@dataclass(frozen=True, slots=True)
class Push:
    """A message to one subscription. ``topic``: a newer one replaces an undelivered older one (at most 32
    characters of base64url); ``ttl`` is in seconds."""

    endpoint: str
    public_key: str
    auth_secret: str
    payload: bytes
    ttl: int
    urgency: Urgency
    topic: str


def decoded(text: str) -> bytes:
    """The bytes of base64url with or without padding; raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None


def encoded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def require_keys(public_key: str, auth_secret: str) -> None:
    """Raises ValueError unless these can be the keys of a subscription: a P-256 point and 16 bytes."""
    if len(decoded(auth_secret)) != 16:
        raise ValueError("the authentication secret has not 16 bytes")
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(public_key))


def is_allowed(endpoint: str, hosts: tuple[str, ...]) -> bool:
    """Whether pushes may be sent there: https to a host that is listed (``*.`` stands for any of its names);
    plain http only to a loopback address with the port that is listed."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.username is not None or parts.fragment or not endpoint.isascii() or not endpoint.isprintable():
        return False
    if parts.scheme == "http":
        return port is not None and host == "127.0.0.1" and f"{host}:{port}" in hosts
    if parts.scheme != "https" or port not in {None, 443}:
        return False
    return any(host == item or (item.startswith("*.") and host.endswith(item[1:])) for item in hosts)


def encrypt(
    payload: bytes,
    public_key: bytes,
    auth_secret: bytes,
    *,
    sender: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """``payload`` as one aes128gcm record that only the subscription's owner can read (RFC 8291, section 3).

    ``sender`` and ``salt`` are made anew unless a test vector gives them. The one kept-up library for this
    (http_ece) comes as a source archive only, whose build fetches unpinned packages.
    """
    key = sender or ec.generate_private_key(ec.SECP256R1())
    salt = os.urandom(16) if salt is None else salt
    own = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
    shared = key.exchange(ec.ECDH(), other)
    ikm = _derived(shared, auth_secret, b"WebPush: info\0" + public_key + own, 32)
    content_key = _derived(ikm, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(ikm, salt, b"Content-Encoding: nonce\0", 12)
    header = salt + _RECORD_SIZE.to_bytes(4, "big") + bytes([_POINT]) + own
    return header + AESGCM(content_key).encrypt(nonce, payload + b"\2", None)


def _derived(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


class WebPushChannel:
    """Hands pushes to push services. ``private_jwk`` (ES256) signs; ``contact`` is who is asked about us."""

    def __init__(
        self, client: httpx.AsyncClient, *, private_jwk: str, contact: str, hosts: tuple[str, ...]
    ) -> None:
        self._client, self._contact, self._hosts = client, contact, hosts
        self._key = ECKey.import_key(json.loads(private_jwk))
        self._signatures: dict[str, tuple[float, str]] = {}

    @property
    def public_key(self) -> str:
        """What a browser is told as ``applicationServerKey``."""
        return encoded(self._key.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    async def send(self, push: Push) -> None:
        """Hand it over.

        Raises:
            DeferredError: ``PUSH_DEFERRED``, ``PUSH_UNREACHABLE``, ``PUSH_FORBIDDEN`` (we are refused there).
            RefusedError: ``SUBSCRIPTION_GONE``, or ``PUSH_REFUSED``: this message will never be taken.
        """
        if not is_allowed(push.endpoint, self._hosts):
            raise RefusedError("SUBSCRIPTION_GONE", "Nothing is sent to such an endpoint.", gone=True)
        answer = await post(
            self._client,
            push.endpoint,
            "PUSH_UNREACHABLE",
            content=encrypt(push.payload, decoded(push.public_key), decoded(push.auth_secret)),
            headers={
                "Authorization": self._authorization(push.endpoint),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(push.ttl),
                "Urgency": push.urgency,
                "Topic": push.topic,
            },
        )
        status = answer.status_code
        if answer.is_success:
            return
        if status in {404, 410}:
            raise RefusedError("SUBSCRIPTION_GONE", "The browser no longer wants it.", status, gone=True)
        if status in {401, 403}:
            raise DeferredError("PUSH_FORBIDDEN", "The push service refuses our signature.", status)
        if status == 429 or status >= 500:
            raise deferred("PUSH_DEFERRED", answer)
        raise RefusedError("PUSH_REFUSED", "The push service refuses the message.", status)

    def _authorization(self, endpoint: str) -> str:
        parts = urlsplit(endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        ends, header = self._signatures.get(origin, (0.0, ""))
        now = time.time()
        if ends < now + 3600:
            ends = now + _SIGNATURE_SECONDS
            claims = {"aud": origin, "exp": int(ends), "sub": self._contact}
            token = jwt.encode({"typ": "JWT", "alg": "ES256"}, claims, self._key)
            header = f"vapid t={token}, k={self.public_key}"
            if len(self._signatures) > 1000:
                self._signatures.clear()
            self._signatures[origin] = ends, header
        return header
