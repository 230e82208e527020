"""Where an installation is."""

from pydantic import Field, SecretStr

from servicekit.settings import KafkaSettings, PostgresSettings


class OpsSettings(PostgresSettings, KafkaSettings):
    """``postgres_dsn`` is that of permission-projector's role.

    The other two are asked by ``lag``, and share-command's by ``erase``.
    """

    share_command_dsn: SecretStr | None = Field(
        None, description="Connection string of share-command's role; without it, its offsets are not shown."
    )
    notifier_dsn: SecretStr | None = Field(
        None, description="Connection string of notifier's role; without it, its offsets are not shown."
    )
