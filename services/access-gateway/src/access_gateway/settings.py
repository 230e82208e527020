"""What the gateway can be told from outside."""

import json
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from contracts.base import Id
from servicekit.settings import (
    KafkaSettings,
    PostgresSettings,
    ProtectedAddress,
    ServiceSettings,
    SignatureAlgorithms,
)

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


def _port(description: str) -> Any:
    return Field(0, ge=0, le=65535, description=f"{description}; 0: off.")


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
    connection_seconds: float = Field(
        0.0, ge=0, description="A connection is closed after this time, whatever moves on it; 0: never."
    )
    connection_bytes_per_second: int = Field(
        0, ge=0, description="What one connection may carry, both directions together; 0: no limit."
    )
    connect_seconds: float = Field(
        10.0, gt=0, le=120, description="How long a service may take to answer a connect."
    )
    ports_per_account: int = Field(50, ge=1, description="Ports that one account may have open.")
    connections_per_port: int = Field(256, ge=1, description="Connections that one port may carry at once.")
    grants_in_memory: int = Field(
        200_000,
        ge=1000,
        description="How many grants are kept in memory; others are read from the database when asked for.",
    )
    audit_backlog: int = Field(
        10_000, ge=1, description="Events kept while the broker is away; beyond that the oldest are dropped."
    )

    access_host: str = Field(
        "127.0.0.1", description="Address on which the ports that are the same for everybody are opened."
    )
    access_port: int = _port("HTTP CONNECT and WebSocket without TLS, on a loopback address only")
    access_tls_port: int = _port("HTTP CONNECT and WebSocket over TLS")
    rtsp_port: int = _port("RTSP without TLS, on a loopback address only unless RTSP_UNENCRYPTED")
    rtsp_unencrypted: bool = Field(
        False, description="RTSP_PORT may be open elsewhere: tokens and pictures can be read on the way."
    )
    rtsps_port: int = _port("RTSP over TLS")
    agent_port: int = _port("Devices that dial out, over TLS")
    agent_public_address: str = Field(
        "",
        pattern=r"^(?:[^\s:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5})?$",
        description="Where agents find this gateway, `host:port`; default RELAY_PUBLIC_HOST and AGENT_PORT.",
    )
    tls_cert_file: Path | None = Field(
        None, description="Certificate (PEM) with its chain; read again when the file is renewed."
    )
    tls_key_file: Path | None = Field(None, description="Its private key (PEM, not encrypted).")
    oidc_issuer: ProtectedAddress | None = Field(
        None, description="OpenID Connect issuer whose tokens people connect with, as it names itself."
    )
    oidc_internal_url: ProtectedAddress | None = Field(
        None, description="Where the gateway itself asks it, when not at the address that people use."
    )
    oidc_audience: str = Field("", description="Audience that those tokens must name.")
    oidc_algorithms: SignatureAlgorithms = Field(
        ("RS256", "ES256"), description="Signature algorithms accepted, asymmetric ones only."
    )
    web_origins: tuple[str, ...] = Field(
        (), max_length=20, description="Origins (RFC 6454) whose pages may open a WebSocket."
    )
    clients: int = Field(10_000, ge=1, description="Clients of all those ports together, at once.")
    strangers_per_source: int = Field(
        100, ge=1, description="Clients from one address that have not yet shown who they are."
    )
    connections_per_account: int = Field(
        256, ge=1, description="Connections that one account may have open there."
    )
    hello_seconds: float = Field(
        10.0, gt=0, le=60, description="How long a client may take to show who it is, TLS included."
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

    @field_validator("relay_host", "access_host")
    @classmethod
    def _an_address(cls, value: str) -> str:
        ip_address(value)
        return value

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.relay_public_host and ip_address(self.relay_host).is_unspecified:
            raise ValueError("RELAY_PUBLIC_HOST must be set when RELAY_HOST is every address of the machine")
        return self

    @model_validator(mode="after")
    def _doors_are_whole(self) -> Self:
        """What is open must be able to do its work, and to keep secret what it is told."""
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE belong together: set both or none")
        plain = {"ACCESS_PORT": self.access_port, "RTSP_PORT": self.rtsp_port}
        over_tls = {
            "ACCESS_TLS_PORT": self.access_tls_port,
            "RTSPS_PORT": self.rtsps_port,
            "AGENT_PORT": self.agent_port,
        }
        for name, port in over_tls.items():
            if port and self.tls_cert_file is None:
                raise ValueError(f"{name} needs TLS_CERT_FILE and TLS_KEY_FILE")
        opened = {name: port for name, port in {**plain, **over_tls}.items() if port}
        if len(set(opened.values())) < len(opened):
            raise ValueError(f"{', '.join(opened)} must differ from each other")
        if opened.keys() - {"AGENT_PORT"} and (self.oidc_issuer is None or not self.oidc_audience):
            raise ValueError("OIDC_ISSUER and OIDC_AUDIENCE must be set: nobody could show who he is")
        if self.access_port and not ip_address(self.access_host).is_loopback:
            raise ValueError("ACCESS_PORT carries tokens unencrypted: open ACCESS_TLS_PORT instead")
        if self.rtsp_port and not (self.rtsp_unencrypted or ip_address(self.access_host).is_loopback):
            raise ValueError(
                "RTSP_PORT carries tokens and pictures unencrypted: open RTSPS_PORT instead, or set"
                " RTSP_UNENCRYPTED where the network itself is trusted"
            )
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
    def agent_address(self) -> str:
        """Where agents are told to find this gateway."""
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return self.agent_public_address or f"{host}:{self.agent_port}"

    @property
    def public_host(self) -> str:
        """The host that clients are told."""
        return self.relay_public_host or self.relay_host
