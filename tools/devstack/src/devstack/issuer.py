"""A small OpenID Connect issuer for demo accounts: it asks for no password, and says so.

Authorization code flow with PKCE (RFC 7636, S256 only) for confidential clients with registered addresses.
Whoever reaches it can sign in as anybody, so it answers on local names only.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, Self

import httpx
import typer
from joserfc import jwt
from joserfc.jwk import ECKey

from contracts.directory import AccountSnapshot
from devstack import seed
from devstack.certificates import Files, files
from devstack.demo_files import replace_file
from devstack.demo_http import http_url, listen, port_of, serving, until_stopped
from devstack.process import StackError
from servicekit.logging import configure

TOKEN_SECONDS: Final = 3600
DEFAULT_AUDIENCE: Final = "latchkey"


@dataclass(frozen=True, slots=True)
class Client:
    """A registered relying party. Browsers are sent to the addresses listed here and to no other."""

    client_id: str
    client_secret: str
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...] = ()


class Keys:
    """An ES256 signing key (RFC 7518), named by its thumbprint."""

    def __init__(self, key: ECKey) -> None:
        self._key = key
        self._header = {"alg": "ES256", "kid": key.thumbprint()}

    @classmethod
    def at(cls, path: Path | None) -> Self:
        """The key kept in ``path``, made there when it is missing; without a path, a key for this run."""
        if path is None:
            return cls(ECKey.generate_key("P-256"))
        if not path.exists():
            replace_file(path, ECKey.generate_key("P-256").as_pem(private=True))
        return cls(ECKey.import_key(path.read_bytes()))

    def public_jwks(self) -> dict[str, Any]:
        """What is published (RFC 7517)."""
        return {"keys": [{**self._key.as_dict(private=False), **self._header, "use": "sig"}]}

    def sign(self, kind: str, claims: Mapping[str, Any]) -> str:
        """A JSON Web Token; ``kind`` is its ``typ``."""
        return jwt.encode({**self._header, "typ": kind}, dict(claims), self._key)


class IssuerServer:
    """A running issuer; made by `start`."""

    def __init__(
        self,
        url: str,
        accounts: Sequence[AccountSnapshot],
        clients: Sequence[Client],
        keys: Keys,
        audience: str,
        *,
        names: Collection[str] = (),
    ) -> None:
        self.url = url
        self.names = frozenset(names)
        self.audience = audience
        self.accounts = tuple(accounts)
        self.keys = keys
        self._clients = {client.client_id: client for client in clients}
        self._foreign_keys = Keys.at(None)

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        accounts: Sequence[AccountSnapshot] = seed.ACCOUNTS,
        clients: Sequence[Client] = (),
        key_file: Path | None = None,
        audience: str = DEFAULT_AUDIENCE,
        url: str | None = None,
        names: Collection[str] = (),
        tls: Files | None = None,
    ) -> AsyncGenerator[Self]:
        """Serve while the block runs, over ``tls`` when given; port 0 takes a free one.

        The key is kept in ``key_file``; without one it is new each time. ``audience`` is the one that access
        tokens are for. Clients can be added later by `register`. ``url`` is its address as people see it,
        when that is not where it listens; others may ask it by one of ``names``.
        """
        from devstack.demo_issuer_http import issuer_app  # noqa: PLC0415 - it needs this module's classes

        sock = listen(host, port)
        issuer = cls(
            url or http_url(host, port_of(sock)), accounts, clients, Keys.at(key_file), audience, names=names
        )
        async with serving(issuer_app(issuer), sock, tls):
            yield issuer

    def register(self, client: Client) -> None:
        """Add or replace a client."""
        self._clients[client.client_id] = client

    def client(self, client_id: str) -> Client | None:
        """A registered client."""
        return self._clients.get(client_id)

    def account(self, account_id: str) -> AccountSnapshot | None:
        """An account by its id."""
        return next((account for account in self.accounts if account.account_id == account_id), None)

    def account_of(self, email: str) -> AccountSnapshot | None:
        """The account that has verified an e-mail address."""
        wanted = email.strip().casefold()
        return next((account for account in self.accounts if wanted in account.verified_emails), None)

    def token(self, account_id: str, **claims: Any) -> str:
        """An access token (RFC 9068) for ``account_id``, known or not; ``claims`` are added or replaced."""
        return self.keys.sign("at+jwt", {**self._access_claims(account_id), **claims})

    def foreign_token(self, account_id: str) -> str:
        """A well-formed access token that another key has signed."""
        return self._foreign_keys.sign("at+jwt", self._access_claims(account_id))

    def expired_token(self, account_id: str) -> str:
        """An access token that ended an hour ago."""
        now = int(time.time())
        return self.token(account_id, iat=now - 2 * TOKEN_SECONDS, exp=now - TOKEN_SECONDS)

    def id_token(self, account_id: str, client: Client, nonce: str | None) -> str:
        """An ID token (OpenID Connect Core 1.0, section 2)."""
        claims = {**self._identity(account_id), **self._lifetime(), "aud": client.client_id}
        claims["auth_time"] = claims["iat"]
        if nonce:
            claims["nonce"] = nonce
        return self.keys.sign("JWT", claims)

    def _access_claims(self, account_id: str) -> dict[str, Any]:
        return {
            **self._identity(account_id),
            **self._lifetime(),
            "aud": self.audience,
            "jti": secrets.token_urlsafe(12),
        }

    def _identity(self, account_id: str) -> dict[str, Any]:
        account = self.account(account_id)
        who: dict[str, Any] = {"iss": self.url, "sub": account_id}
        if account is not None:
            who["name"] = account.name
            if account.verified_emails:
                who |= {"email": account.verified_emails[0], "email_verified": True}
        return who

    def _lifetime(self) -> dict[str, int]:
        now = int(time.time())
        return {"iat": now, "exp": now + TOKEN_SECONDS}


async def fetch_token(issuer_url: str, email: str) -> str:
    """A bearer token from a running demo issuer.

    Raises:
        StackError: no demo account has this address, or the issuer does not answer.
    """
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.post(f"{issuer_url}/demo/token", json={"email": email})
            body: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        raise StackError("The demo issuer does not answer. See `./latchkey status`.") from None
    if answer.status_code != HTTPStatus.OK:
        raise StackError(body["error"]["message"])
    return str(body["access_token"])


def main(
    *,
    directory: Annotated[Path, typer.Option(help="Where the signing key is kept.")],
    client_secret: Annotated[
        str, typer.Option(envvar="LATCHKEY_OIDC_CLIENT_SECRET", help="The portal's secret.")
    ],
    portal_url: Annotated[str, typer.Option(help="The portal's address as people see it.")],
    client_id: Annotated[str, typer.Option(help="The portal's name here.")] = "latchkey-portal",
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    audience: Annotated[str, typer.Option(help="Who access tokens are for.")] = DEFAULT_AUDIENCE,
    url: Annotated[str | None, typer.Option(help="Its address as people see it, if another.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="A host name by which others ask it.")] = None,
    tls: Annotated[Path | None, typer.Option(help="Where issuer.pem and its key are: serve TLS.")] = None,
) -> None:
    """Run the issuer with the demo accounts until SIGTERM or SIGINT."""
    configure("issuer")
    portal = portal_url.rstrip("/")
    client = Client(
        client_id,
        client_secret,
        (f"{portal}/auth/callback",),
        (portal, f"{portal}/", f"{portal}/auth/signed-out"),
    )
    issuer = IssuerServer.start(
        clients=[client],
        host=host,
        port=port,
        key_file=directory / "issuer-key.pem",
        audience=audience,
        url=url,
        names=name or (),
        tls=files(tls, "issuer") if tls else None,
    )
    asyncio.run(until_stopped(issuer))
