"""What one GraphQL request knows: who asks, whom it asks, and what is to be said besides the data."""

from dataclasses import dataclass, field

from portal.peers import Gateway, ReadApi, ShareCommand
from servicekit.http import ApiError

FieldPath = list[str | int]


@dataclass(frozen=True, slots=True)
class Peers:
    """The services behind."""

    share_command: ShareCommand
    read_api: ReadApi
    gateway: Gateway


_EXTENSION_NAMES = {"device_id": "deviceId", "recipient": "email", "service_id": "serviceId"}


def error_extensions(error: ApiError) -> dict[str, object]:
    """The ``extensions`` of a refusal: its code, and what it is about in the names that clients know."""
    about = {
        name: error.details[key]
        for key, name in _EXTENSION_NAMES.items()
        if error.details.get(key) is not None
    }
    return {"code": error.code, **about}


@dataclass(slots=True)
class Context:
    """One request. ``refusals``, ``warnings`` and ``positions`` fill while it runs."""

    account_id: str
    peers: Peers
    position: str | None = None
    idempotency_key: str | None = None
    refusals: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    warnings: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    positions: list[str] = field(default_factory=list[str])

    def refuse(self, path: FieldPath, error: ApiError) -> None:
        """Answer a refusal beside the data: the field is false and everything else of the answer stays."""
        self.refusals.append({"message": error.message, "path": path, "extensions": error_extensions(error)})

    def warn(self, path: FieldPath, code: str, message: str, **about: str) -> None:
        """Say something about a call that was done."""
        self.warnings.append({"code": code, "message": message, "path": path, **about})
