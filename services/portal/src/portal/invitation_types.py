"""An invitation in the GraphQL schema, as whom it is for sees it."""

from datetime import datetime
from typing import Self

import strawberry

from contracts.permissions import AllServices, Permission
from portal import answers
from portal.people import Person


@strawberry.type(description="A device as an invitation names it.")
class InvitedDevice:
    """Nothing else of it is told before the invitation is accepted."""

    id: strawberry.ID
    name: str


@strawberry.type(description="A service in the terms of an invitation.")
class InvitedService:
    """`permissions` null means all that the service supports, now and later."""

    id: strawberry.ID
    name: str | None = strawberry.field(description="Null: the device has no such service any more.")
    permissions: list[str] | None


@strawberry.type(description="A share that the caller may accept or reject. Not in remote.it's schema.")
class Invitation:
    """`services` null means every service of the device, those added later included."""

    id: strawberry.ID
    device: InvitedDevice
    owner: Person
    invitation_version: int = strawberry.field(
        description="Hand it over when accepting: terms that changed meanwhile are refused with CONFLICT."
    )
    created: datetime | None
    scripting: bool
    services: list[InvitedService] | None
    permissions: list[str] | None = strawberry.field(
        description="When every service is shared: what may be done; null means all that is supported."
    )
    starts_at: datetime | None
    ends_at: datetime | None
    expires_at: datetime | None = strawberry.field(description="Until when it can be accepted.")
    message: str | None = strawberry.field(description="The owner's words, plain text.")

    @classmethod
    def of(cls, invitation: answers.Invitation, message: str | None) -> Self:
        """An invitation as the read API answers it."""
        scope = invitation.terms.scope
        every = isinstance(scope, AllServices)
        return cls(
            id=strawberry.ID(str(invitation.share_id)),
            device=InvitedDevice(id=strawberry.ID(invitation.device_id), name=invitation.device_name),
            owner=Person.from_owner(invitation.owner),
            invitation_version=invitation.invitation_version,
            created=invitation.created_at,
            scripting=invitation.terms.scripting,
            services=None
            if every
            else [
                InvitedService(
                    id=strawberry.ID(service_id),
                    name=invitation.service_names.get(service_id),
                    permissions=_listed(permissions),
                )
                for service_id, permissions in scope.services.items()
            ],
            permissions=_listed(scope.permissions) if every else None,
            starts_at=invitation.terms.starts_at,
            ends_at=invitation.terms.ends_at,
            expires_at=invitation.expires_at,
            message=message,
        )


def _listed(permissions: str | frozenset[Permission]) -> list[str] | None:
    return None if isinstance(permissions, str) else sorted(permissions)
