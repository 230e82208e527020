"""The notifier's settings; each is an environment variable ``LATCHKEY_<NAME>``."""

import ipaddress
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from servicekit.settings import KafkaSettings, PostgresSettings, ServiceSettings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_sender(text: str) -> Address:
    """``Latchkey <no-reply@example.com>`` as name and address; raises ValueError when it is neither."""
    name, address = parseaddr(text)
    try:
        parsed = Address(name, addr_spec=address)
    except (HeaderParseError, IndexError) as error:
        raise ValueError("no e-mail address") from error
    if not (parsed.username and parsed.domain and text.isascii() and text.isprintable()):
        raise ValueError("no e-mail address of the form `Name <mailbox@domain>`")
    return parsed


class Settings(PostgresSettings, KafkaSettings, ServiceSettings):
    """All settings of one notifier process."""

    public_url: str = Field(
        description="The portal's address as people see it; links in mails begin with it."
    )
    link_secret: SecretStr = Field(
        min_length=32, description="Signs the links in mails; the same as share-command's."
    )
    mail_from: str = Field(description="Sender of every mail, `Latchkey <no-reply@example.com>`.")
    smtp_host: str = Field(min_length=1, description="Mail server that takes our mails.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the connection is secured; the certificate is checked. `none` only for loopback.",
    )
    smtp_ca_file: Path | None = Field(
        None, description="Certificates (PEM) that may sign the mail server's; the system's when absent."
    )
    smtp_username: str | None = Field(None, description="User name at the mail server, if it wants one.")
    smtp_password: SecretStr | None = Field(None, description="Password at the mail server.")
    smtp_timeout_seconds: float = Field(
        15, gt=0, description="Wait for the connection and for each answer of the mail server but the last."
    )
    smtp_data_timeout_seconds: float = Field(
        600,
        gt=0,
        description="Wait for its answer to a whole mail. A short wait doubles mails (RFC 5321: 10 min).",
    )
    delivery_concurrency: int = Field(4, ge=1, le=100, description="Mails handed over at one time.")
    delivery_poll_seconds: float = Field(
        1, gt=0, description="Longest time between looks at what is due; a notification wakes earlier."
    )
    claim_seconds: float = Field(
        60, ge=1, description="A mail whose process died is taken over after this; live ones renew it."
    )
    retry_first_seconds: float = Field(30, gt=0, description="Wait after the first failed try; then doubled.")
    retry_most_seconds: float = Field(6 * 3600, gt=0, description="Longest wait between two tries.")
    give_up_seconds: float = Field(
        24 * 3600, gt=0, description="A mail that could not be handed over for so long has failed."
    )
    facts_retry_seconds: float = Field(
        0.1, gt=0, description="First wait when a name or the address has not arrived yet; then doubled."
    )
    facts_alarm_seconds: float = Field(
        600, gt=0, description="An alarm is raised when they have not arrived after this time."
    )

    @field_validator("public_url")
    @classmethod
    def _public_url_is_safe(cls, value: str) -> str:
        parts = urlsplit(value)
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("must be an address such as https://share.example.com")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
            raise ValueError("must begin with https:// (http:// only for this machine): links carry tokens")
        if not value.isascii() or not value.isprintable() or any(char in value for char in " <>\"'"):
            raise ValueError("must be plain ASCII")
        return value.rstrip("/")

    @field_validator("mail_from")
    @classmethod
    def _mail_from_is_an_address(cls, value: str) -> str:
        parse_sender(value)
        return value

    @model_validator(mode="after")
    def _mail_server_is_safe(self) -> Self:
        if self.smtp_tls == "none" and not _is_loopback(self.smtp_host):
            raise ValueError("SMTP_TLS=none is for a mail server on this machine only; use starttls or tls")
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("set SMTP_USERNAME and SMTP_PASSWORD both, or neither")
        if self.smtp_ca_file is not None and not self.smtp_ca_file.is_file():
            raise ValueError("SMTP_CA_FILE is not a file")
        if self.retry_first_seconds > self.retry_most_seconds:
            raise ValueError("RETRY_FIRST_SECONDS must not exceed RETRY_MOST_SECONDS")
        return self
