"""What `device_grants_v1` answers, as the policy reads it."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import from_json

from access_gateway.policy import DeviceGrants, Service, Share
from contracts.permissions import Permission, Terms
from servicekit.logging import get_logger

log = get_logger(__name__)

_KNOWN = {str(permission): permission for permission in Permission}


def device_grants(row: Any, *, began: float, answered: float) -> DeviceGrants:
    """One row. The statement went out at ``began`` and its answer was here at ``answered``, of our monotonic
    clock. The database read its own clock between, so that a start counts from the later of the two and an
    end from the earlier."""
    services: list[dict[str, Any]] = from_json(row["services"])
    shares: dict[str, list[Share]] = {}
    terms: dict[str, Terms | None] = {}
    for share in from_json(row["shares"]):
        known = _terms(share["terms"], terms)
        if known is None:
            continue
        shares.setdefault(share["account_id"], []).append(
            Share(
                UUID(share["share_id"]),
                known,
                None if share["begins_in"] is None else answered + share["begins_in"],
                None if share["ends_in"] is None else began + share["ends_in"],
            )
        )
    return DeviceGrants(
        device_id=row["device_id"],
        owner_account_id=row["owner_account_id"],
        version=row["device_version"],
        partition=row["partition"],
        quarantined=row["quarantined"],
        services={each["service_id"]: _service(each) for each in services},
        shares={account_id: tuple(held) for account_id, held in shares.items()},
    )


def _terms(document: Any, known: dict[str, Terms | None]) -> Terms | None:
    """The terms; equal ones are one object. None, which gives nothing: a newer release wrote them."""
    key = repr(document)
    if key not in known:
        try:
            known[key] = Terms.model_validate(document)
        except ValidationError:
            log.warning("terms_unreadable")
            known[key] = None
    return known[key]


def _service(document: dict[str, Any]) -> Service:
    return Service(
        service_id=document["service_id"],
        protocol=document["protocol"],
        channel=document["channel"],
        target_host=document["target_host"],
        target_port=document["target_port"],
        supported=_permissions(document["permissions"]),
        live_path=document["live_path"],
        recording_path=document["recording_path"],
    )


def _permissions(names: Iterable[str]) -> frozenset[Permission]:
    # One that a newer release knows is none that anybody can ask for here.
    return frozenset(_KNOWN[name] for name in names if name in _KNOWN)
