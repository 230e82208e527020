"""Settings of the verbs; see `servicekit.settings`."""

import json

from pydantic import Field, SecretStr, field_validator

from servicekit.settings import KafkaSettings, PostgresSettings, ServiceSettings


class MigrateSettings(ServiceSettings, PostgresSettings):
    """Of ``share-command migrate``."""


class RelaySettings(ServiceSettings, PostgresSettings, KafkaSettings):
    """Of ``share-command relay``."""


class Settings(RelaySettings):
    """Of ``share-command serve``."""

    internal_keys: str = Field(
        description="JWKS with the public keys of callers that are trusted to name an actor."
    )
    link_secret: SecretStr = Field(
        min_length=32, description="Signs invitation links; the same as the notifier's."
    )

    invitation_days: int = Field(
        30,
        ge=1,
        le=365,
        description="How long an invitation can be accepted, in days, unless it says otherwise.",
    )
    shares_per_device: int = Field(
        1_000, ge=1, description="How many shares and open invitations a device may have."
    )
    shares_per_owner: int = Field(
        100_000, ge=1, description="How many shares and open invitations an owner may give."
    )
    commands_per_minute: int = Field(
        600,
        ge=1,
        description="How many commands an account may send to one process over HTTP in a minute; each device "
        "of a bulk counts.",
    )
    contact_code_minutes: int = Field(
        10, ge=1, le=60, description="How long a contact code (QR code) can be scanned, in minutes."
    )

    @field_validator("internal_keys")
    @classmethod
    def _has_public_keys(cls, value: str) -> str:
        document: object = json.loads(value)
        keys: object = document.get("keys") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] - untrusted JSON
        if not isinstance(keys, list) or not keys:
            raise ValueError('a JWKS is wanted: {"keys": [...]} with at least one key')
        if any("d" in key for key in keys):  # pyright: ignore[reportUnknownVariableType] - as above
            raise ValueError("this JWKS holds a private key; only public keys belong here")
        return value
