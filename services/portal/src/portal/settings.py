"""What the portal can be told, from ``LATCHKEY_*``; unsafe or inconsistent values stop it at the start."""

import ipaddress
import json
from typing import Annotated
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import AfterValidator, Field, SecretStr, field_validator

from servicekit.settings import PostgresSettings, ServiceSettings

_ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _http_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://portal.example.com")
    return value.rstrip("/")


def _protected_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must be https: over plain http, sign-in can be read on the way (loopback excepted)")
    return value


HttpAddress = Annotated[str, AfterValidator(_http_address)]
"""Where a service inside the installation is asked."""


# ServiceSettings comes last: pydantic takes the configuration (the prefix) of the last base.
class Settings(PostgresSettings, ServiceSettings):
    """The portal's settings."""

    internal_key: SecretStr = Field(
        description="Private JWK (ES256, with `kid`) that signs the tokens shown to other services."
    )
    public_url: Annotated[HttpAddress, AfterValidator(_protected_address)] = Field(
        description="The portal's address as people see it, without a path."
    )
    oidc_issuer: Annotated[str, AfterValidator(_protected_address)] = Field(
        description="OpenID Connect issuer whose tokens are accepted, exactly as it names itself."
    )
    oidc_audience: str = Field(min_length=1, description="Audience that bearer tokens must name.")
    oidc_algorithms: tuple[str, ...] = Field(
        ("RS256", "ES256"), min_length=1, description="Signature algorithms accepted, asymmetric ones only."
    )
    oidc_client_id: str = Field(min_length=1, description="The portal's registration at the issuer.")
    oidc_client_secret: SecretStr = Field(min_length=1, description="The secret of that registration.")
    share_command_url: HttpAddress = Field(description="Where share-command is asked.")
    read_api_url: HttpAddress = Field(description="Where permission-projector's read API is asked.")
    gateway_url: HttpAddress = Field(description="Where access-gateway is asked.")
    session_hours: int = Field(
        12, ge=1, le=720, description="How long a sign-in in the browser lasts, in hours."
    )

    @field_validator("public_url")
    @classmethod
    def _no_path(cls, value: str) -> str:
        if urlsplit(value).path:
            raise ValueError("must have no path: the portal is served at the root of its host")
        return value

    @field_validator("oidc_algorithms")
    @classmethod
    def _asymmetric_only(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unsafe := sorted(set(value) - _ASYMMETRIC):
            raise ValueError(f"{', '.join(unsafe)}: only {', '.join(sorted(_ASYMMETRIC))} are safe here")
        return value

    @field_validator("oidc_client_id")
    @classmethod
    def _not_the_audience(cls, value: str, info: object) -> str:
        known: dict[str, object] = getattr(info, "data", {})
        if known.get("oidc_audience") == value:
            raise ValueError(
                "must differ from OIDC_AUDIENCE, or the browser's ID tokens would pass as bearer tokens"
            )
        return value

    @field_validator("internal_key")
    @classmethod
    def _signing_key(cls, value: SecretStr) -> SecretStr:
        try:
            key = ECKey.import_key(json.loads(value.get_secret_value()))
        except (JoseError, ValueError, KeyError, TypeError):
            raise ValueError("must be a JSON Web Key of type EC") from None
        if key.curve_name != "P-256" or not key.is_private or not key.kid:
            raise ValueError("must be a private P-256 key with a `kid`")
        return value

    @property
    def secure(self) -> bool:
        """Whether people reach the portal over https."""
        return self.public_url.startswith("https://")
