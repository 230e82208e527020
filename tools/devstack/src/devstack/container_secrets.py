"""Makes the secrets of docker-compose.yml: a directory for each container, with what is its own and no more.

Each directory is a volume that only its containers mount, so its files may be read by any user: that is what
lets every container run as its own image's user. What is there is kept; certificates are made anew each time.
"""

import json
import secrets
import shutil
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from devstack import certificates
from devstack.keys import new_internal_key
from devstack.postgres import ROLES, SUPERUSER

DATABASE = "latchkey"


class _Generated:
    """Secrets by name, each made once and kept in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def token(self, name: str) -> str:
        """A random secret of 32 bytes."""
        return self._values.setdefault(name, secrets.token_urlsafe(32))

    def key(self, name: str) -> tuple[str, str]:
        """A signing key: private JWK and public JWKS."""
        if name not in self._values:
            self._values[name], self._values[f"{name}.public"] = new_internal_key()
        return self._values[name], self._values[f"{name}.public"]

    def save(self) -> None:
        """Keep them for the next time, whole or not at all."""
        draft = self._path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(self._values))
        draft.replace(self._path)


def _put(directory: Path, **values: str) -> None:
    for name, value in values.items():
        path = directory / name
        if path.exists() and path.read_text() == value:
            continue
        draft = directory / f".{name}"
        draft.write_text(value)
        draft.chmod(0o444)
        draft.replace(path)


def _put_certificate(directory: Path, made: certificates.Files, *, with_key: bool = True) -> None:
    for path in (made.ca, made.certificate, made.key) if with_key else (made.ca,):
        draft = directory / f".{path.name}"
        shutil.copyfile(path, draft)
        draft.chmod(0o444)
        draft.replace(directory / path.name)


def make(root: Path) -> None:
    """Write what is missing below ``root``, whose directories are the volumes."""
    authority = root / "authority"
    generated = _Generated(authority / "generated.json")
    internal, internal_public = generated.key("internal")
    push, _ = generated.key("push")
    link, oidc = generated.token("link"), generated.token("oidc")
    registry, access_keys = generated.token("registry"), generated.token("access-keys")
    passwords = {role: generated.token(f"postgres.{role}") for role in (SUPERUSER, *ROLES)}
    generated.save()

    def dsn(role: str) -> str:
        return f"postgresql://{role}:{quote(passwords[role], safe='')}@postgres:5432/{DATABASE}"

    _put(root / "postgres", **passwords)
    _put(
        root / "share-command",
        latchkey_postgres_dsn=dsn("share_command"),
        latchkey_internal_keys=internal_public,
        latchkey_link_secret=link,
    )
    _put(root / "share-command-relay", latchkey_postgres_dsn=dsn("share_command"))
    _put(root / "permission-projector", latchkey_postgres_dsn=dsn("permission_projector"))
    _put(
        root / "permission-reader",
        latchkey_postgres_dsn=dsn("permission_projector"),
        latchkey_internal_keys=internal_public,
    )
    _put(
        root / "notifier",
        latchkey_postgres_dsn=dsn("notifier"),
        latchkey_internal_keys=internal_public,
        latchkey_link_secret=link,
        latchkey_push_key=push,
    )
    _put(
        root / "access-gateway",
        latchkey_postgres_dsn=dsn("access_gateway"),
        latchkey_internal_keys=internal_public,
    )
    _put(
        root / "portal",
        latchkey_postgres_dsn=dsn("portal"),
        latchkey_internal_key=internal,
        latchkey_oidc_client_secret=oidc,
        latchkey_access_key_secret=access_keys,
        latchkey_registry_token=registry,
    )
    _put(
        root / "ops",
        latchkey_postgres_dsn=dsn("permission_projector"),
        latchkey_share_command_dsn=dsn("share_command"),
        latchkey_notifier_dsn=dsn("notifier"),
    )
    _put(root / "issuer", latchkey_oidc_client_secret=oidc)
    _put(root / "registry", latchkey_registry_token=registry)

    for name, host in (("gateway", "localhost"), ("issuer", "issuer"), ("mailpit", "mailpit")):
        certificates.make(authority, name, host)
    _put_certificate(root / "access-gateway", certificates.files(authority))
    _put_certificate(root / "issuer", certificates.files(authority, "issuer"))
    _put_certificate(root / "mailpit", certificates.files(authority, "mailpit"))
    for trusting in ("portal", "notifier", "edge"):
        _put_certificate(root / trusting, certificates.files(authority), with_key=False)


def main(directory: Annotated[Path, typer.Option(help="Below which the volumes are mounted.")]) -> None:
    """Make the secrets that are not there yet."""
    make(directory)
