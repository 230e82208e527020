"""E-mail: builds the message and hands it to an SMTP server."""

import hashlib
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

import aiosmtplib

from contracts.contacts import InvalidAddressError, canonical_address, display_address
from notifier.errors import DeferredError, RefusedError
from notifier.settings import Settings, parse_sender

_VISIBLE = re.compile(r"^[\x21-\x7e]{1,128}$")
_HEADER_LIMIT = 200


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


def recipient_address(canonical: str) -> Address:
    """The address of a contact.

    Raises:
        RefusedError: ``UNSUPPORTED_ADDRESS``: not one that a mail can be sent to.
    """
    try:
        if canonical_address(canonical) != canonical:
            raise InvalidAddressError("not canonical")
    except InvalidAddressError:
        raise RefusedError("UNSUPPORTED_ADDRESS", "The contact's address is not an e-mail address.") from None
    username, _, domain = display_address(canonical).rpartition("@")
    return Address(username=username, domain=domain)


def subject_line(text: str) -> str:
    """``text`` as a header may hold it: one line, no control characters, bounded."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_HEADER_LIMIT]


def message_id(key: str, domain: str) -> str:
    """The Message-ID of the delivery ``key``: a mail that was sent twice is recognised by it."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:40]}@{domain}>"


def build_message(letter: Letter, sender: Address, now: datetime) -> EmailMessage:
    """The message as text and HTML alternatives, all headers set; raises as `recipient_address`."""
    to = recipient_address(letter.recipient)
    message = EmailMessage(policy=SMTP if to.username.isascii() else SMTPUTF8)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject_line(letter.subject)
    message["Date"] = format_datetime(now)
    message["Message-ID"] = message_id(letter.key, sender.domain)
    message["Auto-Submitted"] = "auto-generated"
    if _VISIBLE.fullmatch(letter.correlation_id):
        message["X-Latchkey-Correlation-Id"] = letter.correlation_id
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return message


class EmailChannel:
    """Hands mails to the configured server, one connection a mail."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = parse_sender(settings.mail_from)
        self._tls = ssl.create_default_context(cafile=settings.smtp_ca_file)

    @asynccontextmanager
    async def sent(self, letter: Letter, now: datetime) -> AsyncGenerator[None]:
        """Send ``letter``; the block runs as soon as the server has taken it (250), before the farewell.

        Raises:
            DeferredError: not taken for now, or it is unknown whether it was taken (the connection broke
                after the message and before the answer: the one window in which a mail can come twice).
            RefusedError: the recipient or the message was refused for good (5xx to RCPT or DATA).
        """
        message = build_message(letter, self._sender, now)
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
            use_tls=settings.smtp_tls == "tls",
            start_tls=settings.smtp_tls == "starttls",
            tls_context=self._tls,
            timeout=settings.smtp_timeout_seconds,
        )
        try:
            await self._hand_over(client, message, recipient_address(letter.recipient))
            yield
            with suppress(aiosmtplib.SMTPException):
                await client.quit()
        finally:
            client.close()

    async def _hand_over(self, client: aiosmtplib.SMTP, message: EmailMessage, to: Address) -> None:
        try:
            await client.connect()
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
            await client.rcpt(to.addr_spec, encoding="utf-8" if utf8 else "ascii")
            await client.data(message.as_bytes(), timeout=self._settings.smtp_data_timeout_seconds)
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as error:
            if error.code >= 500:
                code = "MAIL_REFUSED" if isinstance(error, aiosmtplib.SMTPDataError) else "RECIPIENT_REFUSED"
                raise RefusedError(code, "The mail server refuses it for good.", error.code) from None
            raise _deferred(error.code) from None
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                raise DeferredError(
                    "SMTP_SETUP",
                    "The mail server refuses us (greeting, TLS, sign-in or sender): mend the SMTP settings.",
                    error.code,
                ) from None
            raise _deferred(error.code) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            if _is_setup(error):
                raise DeferredError(
                    "SMTP_SETUP", "TLS with the mail server failed, or it lacks it: mend the SMTP settings."
                ) from None
            raise DeferredError(
                "SMTP_UNREACHABLE", f"The mail server cannot be reached: {type(error).__name__}."
            ) from None


def _is_setup(error: Exception) -> bool:
    """Whether ``error`` comes from TLS, or is what the library raises when the server lacks an extension."""
    return (
        isinstance(error, ssl.SSLError)
        or isinstance(error.__cause__, ssl.SSLError)
        or type(error) is aiosmtplib.SMTPException
    )


def _deferred(reply: int) -> DeferredError:
    return DeferredError("SMTP_DEFERRED", "The mail server asks to try again later.", reply)
