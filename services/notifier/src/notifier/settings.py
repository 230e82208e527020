"""The notifier's settings; each is an environment variable ``LATCHKEY_<NAME>``."""

import ipaddress
import json
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import Field, SecretStr, field_validator, model_validator

from notifier.channels.fcm import ServiceAccount
from servicekit.auth import InternalCallers
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
    delivery_concurrency: int = Field(
        8,
        ge=1,
        le=100,
        description="Messages handed over at one time on each way, each on a connection that is kept.",
    )
    digest_seconds: float = Field(
        10,
        ge=0,
        le=300,
        description="Notices of one sharer and recipient within this time go out as one; 0: each by itself.",
    )
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

    internal_keys: str = Field(description="JWKS of the services that may ask for an account's inbox.")
    push_key: SecretStr | None = Field(
        None, description="Private JWK (ES256) that signs Web Push (VAPID); without it there is no Web Push."
    )
    push_contact: str | None = Field(
        None,
        pattern=r"^(mailto:[^\s@]+@[^\s@]+|https://\S+)$",
        description="Whom push services ask about us: `mailto:…` or `https://…`.",
    )
    push_hosts: tuple[str, ...] = Field(
        (
            "fcm.googleapis.com",
            "updates.push.services.mozilla.com",
            "*.push.services.mozilla.com",
            "*.notify.windows.com",
            "*.push.apple.com",
        ),
        description="Push services (hosts; `*.` for any name below) that browsers may name, always https; a "
        "`127.0.0.1:port` may be plain http.",
    )
    fcm_account_file: Path | None = Field(
        None, description="JSON file of the Google service account for FCM; without it there is no FCM."
    )
    fcm_url: str = Field("https://fcm.googleapis.com", description="Where FCM is.")
    sms_url: str | None = Field(
        None, description="The SMS provider's HTTP adapter (docs/notices.md); without it there is no SMS."
    )
    sms_token: SecretStr | None = Field(None, description="Bearer token for it.")
    sms_sender: str = Field(
        "Latchkey",
        pattern=r"^(\+[0-9]{5,15}|[A-Za-z0-9 ]{1,11})$",
        description="Whom a short message is from.",
    )
    handover_seconds: float = Field(
        10, gt=0, description="Wait for the answer of push services and of the SMS provider."
    )

    @field_validator("internal_keys")
    @classmethod
    def _keys_are_readable(cls, value: str) -> str:
        try:
            InternalCallers(value, "notifier")
        except (JoseError, ValueError, TypeError, KeyError):
            raise ValueError("must be a JWKS of public keys") from None
        return value

    @field_validator("push_key")
    @classmethod
    def _push_key_is_one(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                key = ECKey.import_key(json.loads(value.get_secret_value()))
            except (ValueError, TypeError, JoseError):
                raise ValueError("must be a private JWK of an ES256 key") from None
            if not key.is_private or key.curve_name != "P-256":
                raise ValueError("must be a private JWK of an ES256 key")
        return value

    @field_validator("fcm_url", "sms_url")
    @classmethod
    def _provider_is_safe(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if not parts.hostname or (parts.scheme != "https" and not _is_loopback(parts.hostname)):
            raise ValueError("must begin with https:// (http:// only for this machine)")
        return value.rstrip("/")

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
        if (self.push_key is None) != (self.push_contact is None):
            raise ValueError("set PUSH_KEY and PUSH_CONTACT both, or neither")
        if (self.sms_url is None) != (self.sms_token is None):
            raise ValueError("set SMS_URL and SMS_TOKEN both, or neither")
        if self.fcm_account_file is not None:
            try:
                ServiceAccount.read(self.fcm_account_file)
            except (OSError, ValueError):
                raise ValueError("FCM_ACCOUNT_FILE is not the JSON file of a service account") from None
        if self.retry_first_seconds > self.retry_most_seconds:
            raise ValueError("RETRY_FIRST_SECONDS must not exceed RETRY_MOST_SECONDS")
        return self
