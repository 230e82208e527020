"""The settings every process has. A service's own class adds its fields; all come from ``LATCHKEY_*``."""

import sys
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LATCHKEY_", frozen=True, extra="ignore")


class ServiceSettings(_Settings):
    """Where a process serves HTTP, and how it logs."""

    http_host: str = Field("127.0.0.1", description="Address to serve HTTP on.")
    http_port: int = Field(0, ge=0, le=65535, description="Port to serve HTTP on; 0 takes any free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` for machines, `console` for people."
    )


class PostgresSettings(_Settings):
    """For a service that has a database role."""

    postgres_dsn: SecretStr = Field(description="Connection string of this service's own role.")


class KafkaSettings(_Settings):
    """For a service that reads or writes topics."""

    kafka_bootstrap: str = Field(min_length=1, description="Brokers, `host:port`, comma-separated.")
    topic_prefix: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]{0,100}$",
        description="Put before every topic name; lets installations share a cluster.",
    )


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read the settings from the environment; when they cannot be used, print why and exit with 2."""
    try:
        return settings()
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            name = "_".join(str(part) for part in item["loc"]).upper()
            sys.stderr.write(f"LATCHKEY_{name}: {item['msg']}\n")
        sys.exit(2)


def describe(settings: BaseSettings) -> str:
    """One line a setting, as it is in force; secrets are hidden. For the verb ``check-config``."""
    fields = type(settings).model_fields
    return "\n".join(
        f"LATCHKEY_{name.upper()}={getattr(settings, name)}  # {field.description}"
        for name, field in fields.items()
    )
