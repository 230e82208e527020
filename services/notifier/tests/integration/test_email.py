"""The way to the mail server: encrypted and checked, or no mail at all."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devstack.pytest_plugin import InternalTokenMaker
from devstack.smtp import Mailbox
from notifier.channels.email import EmailChannel, Letter
from notifier.errors import DeferredError
from notifier.settings import Settings

KEYS = InternalTokenMaker().public_jwks
LETTER = Letter(
    key="k",
    recipient="mailto:bob@example.com",
    subject="Hello",
    text="Hello\n.\n.hidden dots\n",
    html="<p>Hello</p>",
    correlation_id="c-1",
    unsubscribe_url="https://share.example.com/unsubscribe/x",
    kind="invitation",
)


def settings(port: int, tls: str, **more: object) -> Settings:
    return Settings.model_validate(
        {
            "postgres_dsn": "postgresql://unused",
            "kafka_bootstrap": "unused",
            "public_url": "https://share.example.com",
            "link_secret": "k" * 32,
            "mail_from": "Latchkey <no-reply@example.com>",
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_tls": tls,
            "smtp_timeout_seconds": 10,
            "internal_keys": KEYS,
            **more,
        }
    )


class _Keeper:
    """Keeps mails; the method's name is aiosmtpd's."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.kept.append(envelope.original_content or b"")
        return "250 kept"


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody else signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = directory / "mail.pem", directory / "mail.key"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private


@asynccontextmanager
async def starttls_server(keeper: _Keeper, directory: Path) -> AsyncGenerator[tuple[int, Path]]:
    """A mail server that insists on STARTTLS: its port and its certificate."""
    public, private = certificate(directory)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(keeper, tls_context=context, require_starttls=True, loop=loop)

    server = await loop.create_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], public
    finally:
        server.close()


async def send(chosen: Settings) -> None:
    async with EmailChannel(chosen).sent(LETTER, datetime.now(UTC)):
        pass


async def test_a_mail_server_with_a_known_certificate_gets_the_mail_encrypted(tmp_path: Path) -> None:
    keeper = _Keeper()
    async with starttls_server(keeper, tmp_path) as (port, public):
        await send(settings(port, "starttls", smtp_ca_file=public))
    assert len(keeper.kept) == 1


async def test_a_mail_server_with_an_unknown_certificate_gets_nothing(tmp_path: Path) -> None:
    keeper = _Keeper()
    async with starttls_server(keeper, tmp_path) as (port, _):
        with pytest.raises(DeferredError) as failure:
            await send(settings(port, "starttls"))
    assert failure.value.code == "SMTP_SETUP"
    assert keeper.kept == []


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_mail_server_without_encryption_gets_nothing(mailbox: Mailbox, tls: str) -> None:
    mailbox.clear()
    with pytest.raises(DeferredError) as failure:
        await send(settings(mailbox.smtp_port, tls))
    assert failure.value.code == "SMTP_SETUP"
    assert mailbox.messages() == []


async def test_the_text_arrives_as_it_was_written(mailbox: Mailbox) -> None:
    mailbox.clear()
    await send(settings(mailbox.smtp_port, "none"))
    (mail,) = await mailbox.wait_for("bob@example.com")
    assert mail.text.replace("\r\n", "\n") == LETTER.text
    assert mail.html is not None
    assert "<p>Hello</p>" in mail.html


async def test_an_address_beyond_ascii_is_reached_by_a_server_that_can(mailbox: Mailbox) -> None:
    mailbox.clear()
    letter = replace(LETTER, recipient="mailto:bjørn@example.com")
    async with EmailChannel(settings(mailbox.smtp_port, "none")).sent(letter, datetime.now(UTC)):
        pass
    (mail,) = await mailbox.wait_for("bjørn@example.com")
    assert mail.header("To") == "bjørn@example.com"
