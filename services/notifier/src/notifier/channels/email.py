"""E-mail: builds the message and hands it to an SMTP server, over connections that are kept."""

import asyncio
import binascii
import hashlib
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.utils import format_datetime
from typing import Final

import aiosmtplib

from contracts.contacts import display_address, is_phone
from notifier.addresses import is_canonical
from notifier.errors import DeferredError, RefusedError
from notifier.settings import Settings, parse_sender

_VISIBLE = re.compile(r"^[\x21-\x7e]{1,128}$")
_HEADER_LIMIT = 200
_ONE_LINE = 60
_GONE: Final = re.compile(r"5\.(1\.\d+|2\.1)\b")
_ENHANCED: Final = re.compile(r"5\.\d+\.\d+\b")
_IDLE_SECONDS: Final = 20.0
"""A connection that was not used for so long is closed: servers wait for minutes, middleboxes for less."""

_MAILS_PER_CONNECTION: Final = 200


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to be sent. ``key`` is the delivery's identity: the same key gives the same Message-ID."""

    key: str
    recipient: str
    """Canonical address, ``mailto:ann@example.com``."""
    subject: str
    text: str
    html: str
    correlation_id: str
    unsubscribe_url: str
    """Where one POST turns such mails off (RFC 8058)."""
    kind: str
    """What it is about, for those who count complaints."""


def recipient_address(canonical: str) -> Address:
    """The address of a contact.

    Raises:
        RefusedError: ``UNSUPPORTED_ADDRESS``: not one that a mail can be sent to.
    """
    if not is_canonical(canonical) or is_phone(canonical):
        raise RefusedError("UNSUPPORTED_ADDRESS", "The contact's address is not an e-mail address.")
    username, _, domain = display_address(canonical).rpartition("@")
    return Address(username=username, domain=domain)


def subject_line(text: str) -> str:
    """``text`` as a header may hold it: one line, no control characters, bounded."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_HEADER_LIMIT]


def message_id(key: str, domain: str) -> str:
    """The Message-ID of the delivery ``key``: a mail that was sent twice is recognised by it."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def build_message(letter: Letter, sender: Address, to: Address, now: datetime) -> bytes:
    """The message as text and HTML alternatives, all headers set.

    It is put together here and not by `email.message`, which takes ten times as long for the same bytes.
    """
    boundary = f"=_{hashlib.sha256(letter.key.encode()).hexdigest()[:32]}"
    headers = [
        f"From: {sender}",
        f"To: {to}",
        f"Subject: {_encoded(subject_line(letter.subject))}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: {message_id(letter.key, sender.domain)}",
        "Auto-Submitted: auto-generated",
        f"List-Unsubscribe: <{letter.unsubscribe_url}>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        f"Feedback-ID: {letter.kind}:notice:latchkey",
    ]
    if _VISIBLE.fullmatch(letter.correlation_id):
        headers.append(f"X-Latchkey-Correlation-Id: {letter.correlation_id}")
    headers += ["MIME-Version: 1.0", f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"']
    parts = b"".join(
        f"\r\n--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n".encode()
        + _quoted(text)
        for kind, text in (("plain", letter.text), ("html", letter.html))
    )
    return "\r\n".join((*headers, "")).encode() + parts + f"\r\n--{boundary}--\r\n".encode()


def _encoded(text: str) -> str:
    """An unstructured header's value (RFC 2047), folded."""
    if text.isascii() and len(text) <= _ONE_LINE:
        return text
    charset = "us-ascii" if text.isascii() else "utf-8"
    return Header(text, charset, maxlinelen=76, header_name="Subject").encode(linesep="\r\n")


def _quoted(text: str) -> bytes:
    """Quoted-printable (RFC 2045), lines ended by CRLF."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    return binascii.b2a_qp(lines, istext=True).replace(b"\n", b"\r\n")


class _Connection:
    """A connection to the mail server with what has happened on it."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self.client = client
        self.mails = 0
        self.used_at = 0.0


class EmailChannel:
    """Hands mails to the configured server; at most ``delivery_concurrency`` connections are kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = parse_sender(settings.mail_from)
        self._tls = ssl.create_default_context(cafile=settings.smtp_ca_file)
        self._slots = asyncio.Semaphore(settings.delivery_concurrency)
        self._idle: list[_Connection] = []

    @asynccontextmanager
    async def sent(self, letter: Letter, now: datetime) -> AsyncGenerator[None]:
        """Send ``letter``; the block runs as soon as the server has taken it (250).

        Raises:
            DeferredError: not taken for now, or it is unknown whether it was taken (the connection broke
                after the message and before the answer: the one window in which a mail can come twice).
            RefusedError: the recipient or the message was refused for good (5xx to RCPT or DATA).
        """
        to = recipient_address(letter.recipient)
        message = build_message(letter, self._sender, to, now)
        async with self._slots:
            self._keep(await self._hand_over(message, to))
        yield

    async def close(self) -> None:
        """Say farewell on the connections that nobody uses."""
        for connection in self._idle:
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await connection.client.quit(timeout=1)
            connection.client.close()
        self._idle.clear()

    def _keep(self, connection: _Connection) -> None:
        connection.mails += 1
        connection.used_at = asyncio.get_running_loop().time()
        if connection.mails < _MAILS_PER_CONNECTION and connection.client.is_connected:
            self._idle.append(connection)
        else:
            connection.client.close()

    def _kept(self) -> _Connection | None:
        """The connection that was used last, if one is fit for use; others that are too old are closed."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        for connection in [item for item in self._idle if item.used_at < oldest]:
            self._idle.remove(connection)
            connection.client.close()
        while self._idle:
            connection = self._idle.pop()
            if connection.client.is_connected:
                return connection
            connection.client.close()
        return None

    def _new(self) -> _Connection:
        settings = self._settings
        return _Connection(
            aiosmtplib.SMTP(
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_username,
                password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
                use_tls=settings.smtp_tls == "tls",
                start_tls=settings.smtp_tls == "starttls",
                tls_context=self._tls,
                timeout=settings.smtp_timeout_seconds,
            )
        )

    async def _hand_over(self, message: bytes, to: Address) -> _Connection:
        """Give a mail to the server; the connection, which is good for the next one."""
        connection = self._kept()
        if connection is not None:
            try:
                await self._begin(connection.client, to)
            except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPResponseException, OSError):
                connection.client.close()  # it was closed meanwhile, or wants no more: on a new one, then
                connection = None
            except BaseException:
                connection.client.close()
                raise
        fresh = connection is None
        connection = connection or self._new()
        try:
            if fresh:
                await connection.client.connect()
                await self._begin(connection.client, to)
            await self._finish(connection.client, message, to)
        except aiosmtplib.SMTPRecipientRefused as error:
            with suppress(aiosmtplib.SMTPException, OSError):
                await connection.client.rset()
                self._keep(connection)
            if error.code >= 500:
                raise RefusedError(
                    "RECIPIENT_REFUSED",
                    "The mail server refuses the recipient.",
                    error.code,
                    gone=_is_gone(error),
                ) from None
            raise _deferred(error.code) from None
        except BaseException as error:
            connection.client.close()
            raise _failure(error) from None
        return connection

    async def _begin(self, client: aiosmtplib.SMTP, to: Address) -> None:
        utf8 = not to.username.isascii()
        if utf8 and client.is_ehlo_or_helo_needed:
            await client.ehlo()
        if utf8 and not client.supports_extension("smtputf8"):
            raise RefusedError(
                "UNSUPPORTED_ADDRESS", "The mail server cannot send to addresses beyond ASCII."
            )
        await client.mail(
            self._sender.addr_spec,
            options=["SMTPUTF8"] if utf8 else [],
            encoding="utf-8" if utf8 else "ascii",
        )

    async def _finish(self, client: aiosmtplib.SMTP, message: bytes, to: Address) -> None:
        await client.rcpt(to.addr_spec, encoding="ascii" if to.username.isascii() else "utf-8")
        await client.data(message, timeout=self._settings.smtp_data_timeout_seconds)


def _is_gone(error: aiosmtplib.SMTPRecipientRefused) -> bool:
    """Whether the address itself is refused (RFC 3463: 5.1.x, 5.2.1), and not us, or for being full."""
    return not _ENHANCED.search(error.message) or _GONE.search(error.message) is not None


def _failure(error: BaseException) -> BaseException:
    """What an error of the library means to a delivery."""
    if isinstance(error, aiosmtplib.SMTPDataError) and error.code >= 500:
        return RefusedError("MAIL_REFUSED", "The mail server refuses the mail.", error.code)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _unwelcome(error.code) if error.code >= 500 else _deferred(error.code)
    if isinstance(error, aiosmtplib.SMTPException | OSError):
        if _is_setup(error):
            return DeferredError(
                "SMTP_SETUP", "TLS with the mail server failed, or it lacks it: mend the SMTP settings."
            )
        return DeferredError(
            "SMTP_UNREACHABLE", f"The mail server cannot be reached: {type(error).__name__}."
        )
    return error


def _unwelcome(reply: int) -> DeferredError:
    return DeferredError(
        "SMTP_SETUP",
        "The mail server refuses us (greeting, TLS, sign-in or sender): mend the SMTP settings.",
        reply,
    )


def _is_setup(error: Exception) -> bool:
    """Whether ``error`` comes from TLS, or is what the library raises when the server lacks an extension."""
    return (
        isinstance(error, ssl.SSLError)
        or isinstance(error.__cause__, ssl.SSLError)
        or type(error) is aiosmtplib.SMTPException
    )


def _deferred(reply: int) -> DeferredError:
    return DeferredError("SMTP_DEFERRED", "The mail server asks to try again later.", reply)
