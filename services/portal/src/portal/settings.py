"""What the portal can be told, from ``LATCHKEY_*``; unsafe or inconsistent values stop it at the start."""

import json
from typing import Annotated, Self
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from servicekit.settings import PostgresSettings, ProtectedAddress, ServiceSettings, SignatureAlgorithms


def _http_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://portal.example.com")
    return value.rstrip("/")


def _origin(value: str) -> str:
    if urlsplit(_http_address(value)).path.strip("/"):
        raise ValueError("must have no path")
    return value.rstrip("/")


SignedHost = Annotated[str, Field(pattern=r"^([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$")]
"""A host name as it stands in a Host header, in small letters."""

HttpAddress = Annotated[str, AfterValidator(_http_address)]
"""Where a service inside the installation is asked."""


# ServiceSettings comes last: pydantic takes the configuration (the prefix) of the last base.
class Settings(PostgresSettings, ServiceSettings):
    """The portal's settings."""

    internal_key: SecretStr = Field(
        description="Private JWK (ES256, with `kid`) that signs the tokens shown to other services."
    )
    public_url: Annotated[ProtectedAddress, AfterValidator(_origin)] = Field(
        description="The portal's address as people see it, without a path."
    )
    oidc_issuer: ProtectedAddress = Field(
        description="OpenID Connect issuer whose tokens are accepted, exactly as it names itself."
    )
    oidc_internal_url: ProtectedAddress | None = Field(
        None,
        description="Where the portal itself asks that issuer, when not at the address that people use.",
    )
    oidc_audience: str = Field(min_length=1, description="Audience that bearer tokens must name.")
    oidc_algorithms: SignatureAlgorithms = Field(
        ("RS256", "ES256"), description="Signature algorithms accepted, asymmetric ones only."
    )
    oidc_client_id: str = Field(min_length=1, description="The portal's registration at the issuer.")
    oidc_client_secret: SecretStr = Field(min_length=1, description="The secret of that registration.")
    share_command_url: HttpAddress = Field(description="Where share-command is asked.")
    read_api_url: HttpAddress = Field(description="Where permission-projector's read API is asked.")
    gateway_url: HttpAddress = Field(description="Where access-gateway is asked.")
    other_gateway_urls: tuple[HttpAddress, ...] = Field(
        (), description="Gateways beside it, each by itself: asked too when somebody is to be cut off."
    )
    access_urls: tuple[Annotated[ProtectedAddress, AfterValidator(_origin)], ...] = Field(
        (),
        description="The gateways' ports for HTTP CONNECT and WebSocket, as people reach them "
        "(https://gateway.example.com:8443): the app tells of them, and plays cameras through them.",
    )
    notifier_url: HttpAddress = Field(description="Where notifier is asked.")
    registry_url: HttpAddress | None = Field(
        None,
        description="The registry that devices belong to, which is asked to rename them; without one, "
        "devices are renamed elsewhere.",
    )
    registry_token: SecretStr | None = Field(
        None, description="Bearer token that lets the portal rename devices at the registry."
    )
    access_key_secret: SecretStr = Field(
        min_length=32,
        description="Encrypts the secrets of access keys at rest; when it changes, every access key is void.",
    )
    signed_hosts: tuple[SignedHost, ...] = Field(
        (),
        max_length=20,
        validate_default=True,
        description="Host names (with a port if there is one) that a signed request may name as its host; "
        "empty: the portal's own and api.remote.it.",
    )
    requests_per_minute: int = Field(
        1_200,
        ge=1,
        description="How many GraphQL requests an account may send in a minute, for each process.",
    )
    session_hours: int = Field(
        12, ge=1, le=720, description="How long a sign-in in the browser lasts, in hours."
    )

    @model_validator(mode="after")
    def _registry_whole(self) -> Self:
        if (self.registry_url is None) is not (self.registry_token is None):
            raise ValueError("REGISTRY_URL and REGISTRY_TOKEN belong together: give both or neither")
        return self

    @field_validator("signed_hosts")
    @classmethod
    def _own_and_old_name(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Clients of remote.it sign its host name whatever host they call; some leave out the port."""
        parts = urlsplit(str(info.data.get("public_url", "")))
        known = (parts.netloc.lower(), parts.hostname or "", "api.remote.it")
        return value or tuple(dict.fromkeys(name for name in known if name))

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
