"""Sharing in GraphQL beyond remote.it's schema: bulk, editing, sending again, and what a call would do."""

from collections.abc import Mapping
from datetime import datetime

import strawberry

from contracts.base import new_id
from contracts.commands import AcceptShare, AnyCommand, ChangeShare, RejectShare, ResendInvitation
from contracts.outcomes import BulkShare
from portal.commanding import Info, command_id, order, sent
from portal.errors import InvalidRequest
from portal.sharing import ShareCall, SharingAction, UnusableCallError, command_id_for, to_command
from portal.sharing_types import (
    Explanation,
    GivenShare,
    ServiceSharingOptions,
    ShareBulkResult,
    ShareItem,
    SharePermission,
    TermsInput,
    chosen,
)


def share_call(
    *,
    devices: list[str],
    recipients: list[str],
    services: list[ServiceSharingOptions] | None,
    permissions: list[SharePermission] | None,
    scripting: bool | None,
    notify: bool | None,
    action: SharingAction | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    expires_at: datetime | None,
    message: str | None,
) -> ShareCall:
    """The arguments of `share` with null read as the default."""
    return ShareCall(
        device_ids=tuple(devices),
        emails=tuple(recipients),
        services=tuple(entry.as_entry() for entry in services) if isinstance(services, list) else None,
        permissions=chosen(permissions) if isinstance(permissions, list) else None,
        scripting=scripting if isinstance(scripting, bool) else None,
        notify=notify is not False,
        action=action or SharingAction.ADD,
        starts_at=starts_at or None,
        ends_at=ends_at or None,
        expires_at=expires_at or None,
        message=message if isinstance(message, str) else None,
    )


@strawberry.type
class SharingFields:
    """What a user may look at before he shares or edits."""

    @strawberry.field(description="Shares and open invitations of one of the caller's devices, to edit them.")
    async def shares(self, info: Info, device_id: str) -> list[GivenShare]:
        """As they are now, whatever the read models know; empty for a device of somebody else."""
        context = info.context
        shares = await context.peers.share_command.given_shares(context.account_id, device_id)
        return [GivenShare.of(share) for share in shares]

    @strawberry.field(description="What `share` would do with these arguments. Does nothing.")
    async def explain_share(
        self,
        info: Info,
        *,
        device_ids: list[str],
        email: list[str],
        services: list[ServiceSharingOptions] | None = strawberry.UNSET,
        permissions: list[SharePermission] | None = strawberry.UNSET,
        scripting: bool | None = strawberry.UNSET,
        notify: bool | None = True,
        action: SharingAction | None = SharingAction.ADD,
        starts_at: datetime | None = strawberry.UNSET,
        ends_at: datetime | None = strawberry.UNSET,
        expires_at: datetime | None = strawberry.UNSET,
        message: str | None = strawberry.UNSET,
    ) -> Explanation:
        """By the decision that `share` itself would make."""
        call = share_call(
            devices=device_ids,
            recipients=email,
            services=services,
            permissions=permissions,
            scripting=scripting,
            notify=notify,
            action=action,
            starts_at=starts_at,
            ends_at=ends_at,
            expires_at=expires_at,
            message=message,
        )
        context = info.context
        try:
            command = to_command(call, actor=context.account_id, command_id="explanation")
        except UnusableCallError as error:
            return Explanation(would_be_accepted=False, items=[], code=error.code, message=error.message)
        return Explanation.of(await context.peers.share_command.explain(command))

    @strawberry.field(description="What `changeShare` would do. Does nothing.")
    async def explain_change_share(
        self, info: Info, device_id: str, share_id: str, expected_version: int, terms: TermsInput
    ) -> Explanation:
        """By the decision that `changeShare` itself would make."""
        context = info.context
        command = order(
            lambda: ChangeShare.model_validate(
                {
                    "command_id": "explanation",
                    "actor": context.account_id,
                    "device_id": device_id,
                    "share_id": share_id,
                    "expected_version": expected_version,
                    "terms": terms.as_order(),
                }
            )
        )
        return Explanation.of(await context.peers.share_command.explain(command))


@strawberry.type
class SharingMutations:
    """What can be done with shares beyond `share`."""

    @strawberry.mutation(
        description="Share each device with each recipient, with an outcome for each. The same operation "
        "id again goes on where it stopped and doubles nothing; without one, Idempotency-Key names it."
    )
    async def share_bulk(
        self,
        info: Info,
        *,
        device_ids: list[str],
        recipients: list[str],
        operation_id: str | None = strawberry.UNSET,
        services: list[ServiceSharingOptions] | None = strawberry.UNSET,
        permissions: list[SharePermission] | None = strawberry.UNSET,
        scripting: bool | None = strawberry.UNSET,
        notify: bool | None = True,
        starts_at: datetime | None = strawberry.UNSET,
        ends_at: datetime | None = strawberry.UNSET,
        expires_at: datetime | None = strawberry.UNSET,
        message: str | None = strawberry.UNSET,
    ) -> ShareBulkResult:
        """The operation id is the caller's own: another account's is another operation."""
        if isinstance(services, list) and not services:
            raise InvalidRequest("services is empty. Leave it out to mean every service, or list some.")
        context = info.context
        key = operation_id or context.idempotency_key or str(new_id())
        field = "shareBulk" if operation_id else str(info.path.key)
        common = chosen(permissions if isinstance(permissions, list) else None)
        bulk = order(
            lambda: BulkShare.model_validate(
                {
                    "operation_id": command_id_for(context.account_id, key, field),
                    "actor": context.account_id,
                    "device_ids": list(dict.fromkeys(device_ids)),
                    "recipients": recipients,
                    "services": [entry.as_entry().as_order(common) for entry in services or []],
                    "permissions": common,
                    "scripting": scripting if isinstance(scripting, bool) else None,
                    "notify": notify is not False,
                    "starts_at": starts_at or None,
                    "ends_at": ends_at or None,
                    "expires_at": expires_at or None,
                    "message": message if isinstance(message, str) else None,
                }
            )
        )
        done, positions = await context.peers.share_command.bulk(bulk)
        if positions:
            context.positions.append(positions)
        return ShareBulkResult(operation_id=key, items=[ShareItem.of(item) for item in done.items])

    @strawberry.mutation(
        description="Set the terms of a share, whole. Refused with CONFLICT, and what it is now, when it has "
        "changed since `expectedVersion`."
    )
    async def change_share(
        self,
        info: Info,
        *,
        device_id: str,
        share_id: str,
        expected_version: int,
        terms: TermsInput,
        message: str | None = strawberry.UNSET,
        notify: bool | None = True,
    ) -> bool:
        """By the owner; a list of no services ends the share."""
        fields = {
            "device_id": device_id,
            "share_id": share_id,
            "expected_version": expected_version,
            "terms": terms.as_order(),
            "message": message if isinstance(message, str) else None,
            "notify": notify is not False,
        }
        return await _run(info, ChangeShare, fields)

    @strawberry.mutation(description="Send an open invitation again, at most once a minute.")
    async def resend_invitation(self, info: Info, device_id: str, share_id: str) -> bool:
        """By the owner; it can be accepted for the usual time from now."""
        return await _run(info, ResendInvitation, {"device_id": device_id, "share_id": share_id})

    @strawberry.mutation(description="Accept an invitation, on the terms that were seen.")
    async def accept_invitation(
        self, info: Info, device_id: str, share_id: str, invitation_version: int
    ) -> bool:
        """Refused with CONFLICT when the terms have changed since ``invitation_version``."""
        fields = {"device_id": device_id, "share_id": share_id, "invitation_version": invitation_version}
        return await _run(info, AcceptShare, fields)

    @strawberry.mutation(description="Reject an invitation.")
    async def reject_invitation(self, info: Info, device_id: str, share_id: str) -> bool:
        """Final: the owner may invite again."""
        return await _run(info, RejectShare, {"device_id": device_id, "share_id": share_id})


async def _run(info: Info, kind: type[AnyCommand], fields: Mapping[str, object]) -> bool:
    context = info.context
    named = {"command_id": command_id(info), "actor": context.account_id}
    return await sent(
        info, lambda: kind.model_validate({**named, **fields}), context.peers.share_command.send
    )
