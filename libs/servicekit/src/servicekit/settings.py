"""The settings every process has. A service's own class adds its fields; all come from ``LATCHKEY_*``.

Where ``LATCHKEY_SECRETS_DIR`` names a directory, a setting that is not in the environment is read from the
file of its name there (``latchkey_postgres_dsn``): inspecting a container shows the first only.
"""

import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: a loopback address, or ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _protected_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("must be https: over plain http, sign-in can be read on the way (loopback excepted)")
    return value


def _asymmetric_only(value: tuple[str, ...]) -> tuple[str, ...]:
    if unsafe := sorted(set(value) - _ASYMMETRIC):
        raise ValueError(f"{', '.join(unsafe)}: only {', '.join(sorted(_ASYMMETRIC))} are safe here")
    return value


ProtectedAddress = Annotated[str, AfterValidator(_protected_address)]
"""An address of which nothing can be read or changed on the way: https, or http on this machine."""

SignatureAlgorithms = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_asymmetric_only)]
"""JSON Web Algorithms (RFC 7518) whose verifier cannot sign."""


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
    directory = os.environ.get("LATCHKEY_SECRETS_DIR")
    if directory and not Path(directory).is_dir():
        sys.stderr.write(f"LATCHKEY_SECRETS_DIR: {directory} is no directory\n")
        sys.exit(2)
    try:
        return settings(_secrets_dir=directory)
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
