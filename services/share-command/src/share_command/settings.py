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
