"""Local servers that speak the protocols of push services, of FCM and of an SMS provider."""

import asyncio
import base64
import json
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def data(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


class Browser:
    """A subscription's secret side: decrypts what a push service passes on (RFC 8291, receiver)."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = os.urandom(16)
        self._public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def keys(self) -> dict[str, str]:
        return {"p256dh": text(self._public), "auth": text(self._auth)}

    def read(self, body: bytes) -> bytes:
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert len(sealed) <= size == 4096
        shared = self._key.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        )
        ikm = _hkdf(shared, self._auth, b"WebPush: info\0" + self._public + sender, 32)
        key = _hkdf(ikm, salt, b"Content-Encoding: aes128gcm\0", 16)
        nonce = _hkdf(ikm, salt, b"Content-Encoding: nonce\0", 12)
        plain = AESGCM(key).decrypt(nonce, sealed, None)
        assert plain.endswith(b"\2")
        return plain[:-1]


def _hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


@dataclass
class Providers:
    """All of them on one port. ``answers`` are given first, in order: status and headers, or a JSON body."""

    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    answers: list[tuple[int, dict[str, str], Any]] = field(
        default_factory=list[tuple[int, dict[str, str], Any]]
    )
    tokens: int = 0
    account_key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def service_account(self) -> str:
        """The JSON file that Google would give."""
        private = self.account_key.private_bytes(
            Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "latchkey-test",
                "client_email": "push@latchkey-test.example",
                "private_key_id": "k1",
                "private_key": private.decode(),
                "token_uri": f"{self.url}/token",
            }
        )

    async def until(self, count: int, path: str) -> list[dict[str, Any]]:
        """What was asked at ``path``, once there are ``count``."""
        async with asyncio.timeout(30):
            while len(found := [item for item in self.asked if item["path"].startswith(path)]) < count:  # noqa: ASYNC110 - filled by the server
                await asyncio.sleep(0.02)
        return found


def claims_of_vapid(header: str, origin: str) -> dict[str, Any]:
    """Verifies an Authorization header as a push service does (RFC 8292) and returns the claims."""
    scheme, _, rest = header.partition(" ")
    assert scheme == "vapid"
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    point = data(parts["k"])
    key = ECKey.import_key({"kty": "EC", "crv": "P-256", "x": text(point[1:33]), "y": text(point[33:])})
    claims = jwt.decode(parts["t"], key, algorithms=["ES256"]).claims
    assert claims["aud"] == origin
    return claims


@asynccontextmanager
async def running() -> AsyncGenerator[Providers]:
    """Serve while the block runs."""
    providers = Providers()
    app = FastAPI()

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = dict(part.split("=", 1) for part in (await request.body()).decode().split("&"))
        assert form["grant_type"] == "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
        public = providers.account_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        claims = jwt.decode(form["assertion"], RSAKey.import_key(public), algorithms=["RS256"]).claims
        assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        assert claims["aud"] == f"{providers.url}/token"
        providers.tokens += 1
        return JSONResponse({"access_token": f"token-{providers.tokens}", "expires_in": 3600})

    @app.post("/{path:path}")
    async def take(request: Request, path: str) -> Response:
        providers.asked.append(
            {"path": f"/{path}", "headers": dict(request.headers), "body": await request.body()}
        )
        status, headers, content = providers.answers.pop(0) if providers.answers else (201, {}, None)
        return JSONResponse(content, status, headers=headers)

    sock = socket.create_server(("127.0.0.1", 0))
    providers.address = f"127.0.0.1:{sock.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield providers
    finally:
        server.should_exit = True
        await task
