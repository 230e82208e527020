"""What the gateway can be told from outside."""

import json
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from contracts.base import Id
from servicekit.settings import KafkaSettings, PostgresSettings, ServiceSettings

Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(
        ip_network(part.strip()) for part in text.strip("[] ").replace('"', "").split(",") if part.strip()
    )


def _port_range(text: str) -> range:
    first, _, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise ValueError("a range of ports has the form 20000-29999, within 1 to 65535")
    return ports


# The base that carries the prefix stands last: of several, the last one's configuration holds.
class Settings(KafkaSettings, PostgresSettings, ServiceSettings):
    """Settings of the process ``access-gateway serve``."""

    internal_keys: str = Field(description="JWKS with the public keys of callers that may name an account.")
    gateway_id: Id = Field(description="This gateway's name in events; each process has its own.")
    relay_host: str = Field("127.0.0.1", description="Address on which ports for clients are opened.")
    relay_public_host: str = Field("", description="What clients are told to connect to; default RELAY_HOST.")
    relay_ports: str = Field("20000-29999", description="Ports that may be opened for clients.")
    target_networks: str = Field(
        "",
        description="Networks in which a service may be dialled, comma-separated. Loopback and link-local "
        "addresses need a network of their own kind.",
    )
    max_staleness_seconds: float = Field(
        15.0, gt=0, le=300, description="Access that was not proved for so long is refused and cut."
    )
    port_idle_seconds: float = Field(
        900.0, gt=0, description="A port without a connection is closed after this time."
    )
    connection_idle_seconds: float = Field(
        3600.0, gt=0, description="A connection on which nothing moves is closed after this time."
    )
    connect_seconds: float = Field(
        10.0, gt=0, le=120, description="How long a service may take to answer a connect."
    )
    ports_per_account: int = Field(50, ge=1, description="Ports that one account may have open.")
    connections_per_port: int = Field(256, ge=1, description="Connections that one port may carry at once.")
    audit_backlog: int = Field(
        10_000, ge=1, description="Events kept while the broker is away; beyond that the oldest are dropped."
    )

    @field_validator("internal_keys")
    @classmethod
    def _public_keys_only(cls, value: str) -> str:
        try:
            document: Any = json.loads(value)
            keys: list[dict[str, Any]] = list(document["keys"])
            private = any("d" in key or "k" in key for key in keys)
        except (ValueError, TypeError, KeyError):
            raise ValueError('must be a JWKS: {"keys": [...]}') from None
        if not keys:
            raise ValueError("must hold at least one key: nobody could ask otherwise")
        if private:
            raise ValueError("must hold public keys only; keep the private one with its owner")
        return value

    @field_validator("target_networks")
    @classmethod
    def _readable_networks(cls, value: str) -> str:
        _networks(value)
        return value

    @field_validator("relay_ports")
    @classmethod
    def _readable_ports(cls, value: str) -> str:
        _port_range(value)
        return value

    @field_validator("relay_host")
    @classmethod
    def _an_address(cls, value: str) -> str:
        ip_address(value)
        return value

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.relay_public_host and ip_address(self.relay_host).is_unspecified:
            raise ValueError("RELAY_PUBLIC_HOST must be set when RELAY_HOST is every address of the machine")
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        """`target_networks`, read."""
        return _networks(self.target_networks)

    @property
    def ports(self) -> range:
        """`relay_ports`, read."""
        return _port_range(self.relay_ports)

    @property
    def public_host(self) -> str:
        """The host that clients are told."""
        return self.relay_public_host or self.relay_host
