"""The GraphQL schema: `login` with what belongs to the caller, and the mutations.

A mutation that is refused answers false and the refusal beside it (`Context.refuse`), never by raising: an
old script must find ``{"data": {"share": false}}``.
"""

from collections.abc import Awaitable
from typing import Annotated, Any, Final

import strawberry
from graphql import GraphQLError
from pydantic import ValidationError
from strawberry.extensions import (
    AddValidationRules,
    MaxAliasesLimiter,
    MaxTokensLimiter,
    ParserCache,
    QueryDepthLimiter,
    ValidationCache,
)
from strawberry.types import ExecutionContext
from strawberry.types.nodes import SelectedField

from contracts.commands import AcceptShare, AnyCommand, RejectShare
from portal import answers
from portal.context import Context, FieldPath
from portal.errors import InvalidRequest, Refused
from portal.schema_types import (
    STATE_UNKNOWN,
    Connection,
    Device,
    DeviceList,
    Invitation,
    ListFilter,
    Person,
    ServiceSharingOptions,
)
from portal.sharing import (
    ServiceEntry,
    ShareCall,
    SharingAction,
    UnusableCallError,
    command_id_for,
    to_command,
    undone_services,
)
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

MAX_PAGE: Final = 1000
_ORDERS: Final = frozenset({"name", "-name", "created", "-created"})
_MAX_DEVICES_BY_ID: Final = 100
_MAX_DEPTH: Final = 12
_MAX_ALIASES: Final = 20
_MAX_TOKENS: Final = 10_000

Info = strawberry.Info[Context, None]


def _path(info: Info) -> FieldPath:
    return info.path.as_list()


def _named(name: str) -> Any:
    return strawberry.argument(name=name)


@strawberry.type(description="The caller, and what belongs to him.")
class User:
    """An account that asks for itself."""

    me: strawberry.Private[answers.Me]

    id: strawberry.ID
    email: str | None

    @strawberry.field(description="The caller's own account, whose id and address may be named; else null.")
    def account(self, id: str | None = None, email: str | None = None) -> "User | None":
        """Accounts of others are not told apart from those that do not exist."""
        own_address = (self.email or "").casefold()
        if (id and id != self.id) or (email and email.casefold() != own_address):
            return None
        return self

    @strawberry.field(description="The caller's contact book, newest first.")
    async def contacts(self, info: Info) -> list[Person]:
        """Everybody that the caller has shared with."""
        contacts = await info.context.peers.share_command.contacts(info.context.account_id)
        return [Person.from_contact(contact) for contact in contacts]

    @strawberry.field(
        description="Devices of the caller and those shared with him and accepted. Platforms, applications, "
        "hardware ids and tags are not kept, so that whoever filters by one of them finds nothing; the same "
        'goes for a `state` other than "unknown". Sorted by name, -name, created or -created; a field that '
        "is not kept sorts by name."
    )
    async def devices(
        self,
        info: Info,
        *,
        from_: Annotated[int | None, _named("from")] = 0,
        size: int | None = 100,
        sort: str | None = "name",
        after: strawberry.ID | None = strawberry.UNSET,
        id: list[str] | None = strawberry.UNSET,
        name: str | None = strawberry.UNSET,
        owner: bool | None = strawberry.UNSET,
        state: str | None = strawberry.UNSET,
        platform: list[int] | None = strawberry.UNSET,
        application: list[int] | None = strawberry.UNSET,
        hardware_id: str | None = strawberry.UNSET,
        tag: ListFilter | None = strawberry.UNSET,
    ) -> DeviceList:
        """One page; what `size` 0 gives is the total."""
        offset = _offset(from_ or 0, after or None)
        count = 100 if size is None else size
        if not 0 <= count <= MAX_PAGE:
            raise InvalidRequest(f"size must be between 0 and {MAX_PAGE}.")
        unmatched = platform or application or hardware_id or (tag and tag.values)
        if unmatched or (state and state != STATE_UNKNOWN):
            return DeviceList(items=[], total=0, has_more=False, last=None)
        params: dict[str, str | list[str]] = {
            "from": str(offset),
            "size": str(max(count, 1)),
            "sort": sort if sort in _ORDERS else "name",
        }
        if name:
            params["name"] = name
        if owner is True or owner is False:
            params["owner"] = str(owner).lower()
        if id:
            params["id"] = id
        page = await info.context.peers.read_api.devices(
            info.context.account_id, params, info.context.position
        )
        items = page.items[:count]
        return DeviceList(
            items=[Device.of(device) for device in items],
            total=page.total,
            has_more=offset + len(items) < page.total,
            last=strawberry.ID(str(offset + len(items))) if items else None,
        )

    @strawberry.field(description="Devices by id, in the order asked for; unknown ones are left out.")
    async def device(self, info: Info, id: list[str]) -> list[Device]:
        """At most a hundred."""
        if len(id) > _MAX_DEVICES_BY_ID:
            raise InvalidRequest(f"At most {_MAX_DEVICES_BY_ID} devices by id; use devices for more.")
        found: list[Device] = []
        for device_id in dict.fromkeys(id):
            try:
                device = await info.context.peers.read_api.device(
                    info.context.account_id, device_id, info.context.position
                )
            except Refused as error:
                if error.code != "DEVICE_NOT_FOUND":
                    raise
            else:
                found.append(Device.of(device))
        return found

    @strawberry.field(description="What the caller may accept or reject now. Not in remote.it's schema.")
    async def invitations(self, info: Info) -> list[Invitation]:
        """Open invitations to any address that the caller has verified."""
        items = await info.context.peers.read_api.invitations(info.context.account_id, info.context.position)
        return [Invitation.of(item) for item in items]


def _offset(from_: int, after: str | None) -> int:
    """Where a page begins; ``after`` is the `last` of the page before."""
    if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 9):
        raise InvalidRequest("after must be the `last` of an earlier answer.")
    offset = int(after) if after is not None else from_
    if offset < 0:
        raise InvalidRequest("from must not be negative.")
    return offset


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field(description="The caller.")
    async def login(self, info: Info) -> User | None:
        """The account that the token names."""
        me = await info.context.peers.read_api.me(info.context.account_id)
        return User(me=me, id=strawberry.ID(me.account_id), email=me.email)


async def _taken(info: Info, asked: Awaitable[str]) -> bool:
    """Whether a command was durably taken; a refusal is answered beside the data."""
    try:
        positions = await asked
    except ApiError as error:
        info.context.refuse(_path(info), error)
        return False
    if positions:
        info.context.positions.append(positions)
    return True


def _given_scripting(info: Info) -> bool | None:
    """`scripting` when the document gives it, else None: its default cannot tell the two apart."""
    selected = info.selected_fields[0]
    given = selected.arguments.get("scripting") if isinstance(selected, SelectedField) else None
    return given if isinstance(given, bool) else None


def _command_id(info: Info) -> str:
    context = info.context
    return command_id_for(context.account_id, context.idempotency_key, str(info.path.key))


async def _send(info: Info, command: AnyCommand) -> str:
    return await info.context.peers.share_command.send(command)


@strawberry.type
class Mutation:
    """What can be done."""

    @strawberry.mutation(
        description="Share devices or single services, take them back, or give them back. "
        "True: durably taken. All or nothing."
    )
    async def share(
        self,
        info: Info,
        *,
        device_id: str | None = strawberry.UNSET,
        device_ids: list[str] | None = strawberry.UNSET,
        email: list[str],
        services: list[ServiceSharingOptions] | None = strawberry.UNSET,
        scripting: bool | None = False,
        notify: bool | None = True,
        action: SharingAction | None = SharingAction.ADD,
    ) -> bool:
        """See `portal.sharing` for what the arguments mean together."""
        call = ShareCall(
            device_ids=(*([device_id] if device_id else []), *(device_ids or [])),
            emails=tuple(email),
            services=tuple(
                ServiceEntry(entry.service_id, entry.action or SharingAction.ADD) for entry in services
            )
            if isinstance(services, list)
            else None,
            scripting=_given_scripting(info),
            notify=notify is not False,
            action=action or SharingAction.ADD,
        )
        context = info.context
        try:
            command = to_command(call, actor=context.account_id, command_id=_command_id(info))
        except UnusableCallError as error:
            about = {"device_id": error.device_id, "service_id": error.service_id}
            context.refuse(_path(info), ApiError(error.code, 400, error.message, details=about))
            return False
        taken = await _taken(info, _send(info, command))
        if taken and call.action is SharingAction.ADD:
            for service_id in undone_services(call.services or ()):
                context.warn(
                    _path(info),
                    "ADDED_AND_REMOVED",
                    "The service is added and then removed in one call; it is not shared.",
                    serviceId=service_id,
                )
        return taken

    @strawberry.mutation(description="Accept an invitation, on the terms that were seen.")
    async def accept_invitation(
        self, info: Info, device_id: str, share_id: str, invitation_version: int
    ) -> bool:
        """Refused with CONFLICT when the terms have changed since ``invitation_version``."""
        fields = {"share_id": share_id, "invitation_version": invitation_version}
        return await _answer_invitation(info, AcceptShare, device_id, fields)

    @strawberry.mutation(description="Reject an invitation.")
    async def reject_invitation(self, info: Info, device_id: str, share_id: str) -> bool:
        """Final: the owner may invite again."""
        return await _answer_invitation(info, RejectShare, device_id, {"share_id": share_id})

    @strawberry.mutation(description="Open a port that leads to a service.")
    async def connect(
        self,
        info: Info,
        service_id: str,
        host_ip: Annotated[str | None, _named("hostIP")] = "255.255.255.255",
    ) -> Connection:
        """`hostIP` limits who may use the port; the default latches to the first address that connects."""
        context = info.context
        opened = await context.peers.gateway.connect(
            context.account_id, service_id, host_ip or "255.255.255.255", context.position
        )
        return Connection.of(opened)

    @strawberry.mutation(description="Close a connection.")
    async def disconnect(
        self, info: Info, connection_id: str, service_id: str | None = strawberry.UNSET
    ) -> bool:
        """One's own only. `serviceId` is accepted for old clients; the connection's id says it all."""
        try:
            await info.context.peers.gateway.disconnect(info.context.account_id, connection_id)
        except ApiError as error:
            info.context.refuse(_path(info), error)
            return False
        return True


async def _answer_invitation(
    info: Info, kind: type[AcceptShare] | type[RejectShare], device_id: str, fields: dict[str, Any]
) -> bool:
    try:
        command = kind(
            command_id=_command_id(info), actor=info.context.account_id, device_id=device_id, **fields
        )
    except ValidationError:
        unusable = InvalidRequest("deviceId, shareId or invitationVersion is not as the invitation says.")
        info.context.refuse(_path(info), unusable)
        return False
    return await _taken(info, _send(info, command))


class _Schema(strawberry.Schema):
    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Log bugs only, and never the document: it holds addresses."""
        for error in errors:
            cause = error.original_error
            of_the_caller = isinstance(cause, ApiError | GraphQLError) or (
                isinstance(cause, RecursionError) and not error.path
            )
            if cause is not None and not of_the_caller:
                log.error("graphql_field_failed", path=error.path, exc_info=cause)


def build_schema() -> strawberry.Schema:
    """The schema with its limits: depth, aliases, tokens, and bounded caches of documents."""
    # Made once: a rule class made anew for each request would never hit the validation cache.
    rules = [
        *QueryDepthLimiter(_MAX_DEPTH).validation_rules,
        *MaxAliasesLimiter(_MAX_ALIASES).validation_rules,
    ]
    return _Schema(
        query=Query,
        mutation=Mutation,
        extensions=[
            lambda: MaxTokensLimiter(_MAX_TOKENS),
            lambda: AddValidationRules(rules),
            ParserCache,
            ValidationCache,
        ],
    )
