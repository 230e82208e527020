"""The settings of permission-projector, one class for each verb."""

from joserfc.errors import JoseError
from pydantic import Field, field_validator

from servicekit.auth import InternalCallers
from servicekit.settings import KafkaSettings, PostgresSettings, ServiceSettings

NAME = "permission-projector"
"""This service's name: the audience of internal tokens, its consumer group, its dead-letter topic."""


class ProjectSettings(ServiceSettings, PostgresSettings, KafkaSettings):
    """What ``project`` needs."""


class ServeSettings(ServiceSettings, PostgresSettings):
    """What ``serve`` needs."""

    internal_keys: str = Field(
        min_length=1, description="JWKS (public keys) of the services that may ask for an account."
    )

    @field_validator("internal_keys")
    @classmethod
    def _is_a_key_set(cls, value: str) -> str:
        try:
            InternalCallers(value, NAME)
        except (ValueError, KeyError, TypeError, AttributeError, JoseError):
            raise ValueError("is no JSON Web Key Set") from None
        return value


class MigrateSettings(PostgresSettings):
    """What ``migrate`` needs."""


class AllSettings(ProjectSettings, ServeSettings):
    """What ``check-config`` looks at: the settings of every verb."""
