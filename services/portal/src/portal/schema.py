"""The GraphQL schema: `login` with what belongs to the caller, and the mutations.

A mutation that is refused answers false and the refusal beside it (`Context.refuse`), never by raising: an
old script must find ``{"data": {"share": false}}``.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import strawberry
from graphql import GraphQLError
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

from contracts.contacts import InvalidAddressError, canonical_address
from portal import answers
from portal.access_key_schema import AccessKeyFields, AccessKeyMutations
from portal.agent_schema import AgentMutations
from portal.commanding import Info, command_id, path, taken
from portal.contact_schema import ContactFields, ContactMutations
from portal.device_schema import DeviceMutations
from portal.errors import InvalidRequest, Refused
from portal.event_schema import UserEventFields
from portal.event_types import DeviceConnectEvent, DeviceShareEvent
from portal.guest_schema import GuestFields
from portal.history_schema import HistoryFields
from portal.inbox_schema import InboxFields, InboxMutations
from portal.invitation_types import Invitation
from portal.schema_types import (
    Connection,
    Device,
    DeviceList,
    ListFilter,
    matches_none,
)
from portal.sharing import SharingAction, UnusableCallError, to_command, undone_services
from portal.sharing_schema import SharingFields, SharingMutations, share_call
from portal.sharing_types import ServiceSharingOptions, SharePermission
from portal.stream_schema import StreamMutations
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

MAX_PAGE: Final = 1000
_ORDERS: Final = frozenset({"name", "-name", "created", "-created"})
_MAX_DEVICES_BY_ID: Final = 100
_PRESENCE: Final = {"active": "online", "inactive": "offline", "unknown": "unknown"}
_MAX_DEPTH: Final = 12
_MAX_ALIASES: Final = 20
_MAX_TOKENS: Final = 10_000


def _named(name: str) -> Any:
    return strawberry.argument(name=name)


@strawberry.type(description="The caller, and what belongs to him.")
class User(
    AccessKeyFields, ContactFields, GuestFields, HistoryFields, InboxFields, SharingFields, UserEventFields
):
    """An account that asks for itself."""

    me: strawberry.Private[answers.Me]

    id: strawberry.ID
    email: str | None
    name: str | None = strawberry.field(description="Not in remote.it's schema.")

    @strawberry.field(description="The caller's own account, whose id and address may be named; else null.")
    def account(self, id: str | None = None, email: str | None = None) -> "User | None":
        """Accounts of others are not told apart from those that do not exist."""
        if (id and id != self.id) or (email and not _same_address(email, self.email)):
            return None
        return self

    @strawberry.field(
        description="Devices of the caller and those shared with him and accepted. Platforms, applications, "
        "hardware ids and tags are not kept, so that whoever filters by one of them finds nothing. "
        "`state` is active, inactive or unknown. Sorted by name, -name, created or "
        "-created; a field that is not kept sorts by name."
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
        if matches_none(application, platform, hardware_id, tag) or (state and state not in _PRESENCE):
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
        if state:
            params["presence"] = _PRESENCE[state]
        context = info.context
        page = await context.peers.read_api.devices(context.account_id, params, context.position)
        items, total = page.items[:count], page.total or 0
        return DeviceList(
            items=[Device.of(device) for device in items],
            total=total,
            has_more=offset + len(items) < total,
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
        context = info.context
        items = await context.peers.read_api.invitations(context.account_id, context.position)
        shares = [item.share_id for item in items]
        asked = shares and any(
            isinstance(child, SelectedField) and child.name == "message"
            for selected in info.selected_fields
            for child in selected.selections
        )
        words = await context.peers.share_command.messages(context.account_id, shares) if asked else {}
        return [Invitation.of(item, words.get(item.share_id)) for item in items]


def _same_address(one: str, other: str | None) -> bool:
    """Whether two spellings mean one address; what is no address is nobody's."""
    try:
        return other is not None and canonical_address(one) == canonical_address(other)
    except InvalidAddressError:
        return False


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
        me = await info.context.me()
        return User(me=me, id=strawberry.ID(me.account_id), email=me.email, name=me.name)


def _given_scripting(info: Info) -> bool | None:
    """`scripting` when the document gives it, else None: its default cannot tell the two apart."""
    selected = info.selected_fields[0]
    given = selected.arguments.get("scripting") if isinstance(selected, SelectedField) else None
    return given if isinstance(given, bool) else None


@strawberry.type
class Mutation(
    AccessKeyMutations,
    AgentMutations,
    ContactMutations,
    DeviceMutations,
    InboxMutations,
    SharingMutations,
    StreamMutations,
):
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
        permissions: list[SharePermission] | None = strawberry.UNSET,
        starts_at: datetime | None = strawberry.UNSET,
        ends_at: datetime | None = strawberry.UNSET,
        expires_at: datetime | None = strawberry.UNSET,
        message: str | None = strawberry.UNSET,
    ) -> bool:
        """See `portal.sharing` for what the arguments mean together; those after `action` are ours."""
        del scripting
        call = share_call(
            devices=[*([device_id] if device_id else []), *(device_ids or [])],
            recipients=email,
            services=services,
            permissions=permissions,
            scripting=_given_scripting(info),
            notify=notify,
            action=action,
            starts_at=starts_at,
            ends_at=ends_at,
            expires_at=expires_at,
            message=message,
        )
        context = info.context
        try:
            command = to_command(call, actor=context.account_id, command_id=command_id(info))
        except UnusableCallError as error:
            about = {"device_id": error.device_id, "service_id": error.service_id}
            context.refuse(path(info), ApiError(error.code, 400, error.message, details=about))
            return False
        done = await taken(info, context.peers.share_command.send(command))
        if done and call.action is SharingAction.ADD:
            for service_id in undone_services(call.services or ()):
                context.warn(
                    path(info),
                    "ADDED_AND_REMOVED",
                    "The service is added and then removed in one call; it is not shared.",
                    serviceId=service_id,
                )
        return done

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
            info.context.refuse(path(info), error)
            return False
        return True


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
        types=[DeviceShareEvent, DeviceConnectEvent],
        extensions=[
            lambda: MaxTokensLimiter(_MAX_TOKENS),
            lambda: AddValidationRules(rules),
            ParserCache,
            ValidationCache,
        ],
    )


def sdl() -> str:
    """The schema as clients may read it (GraphQL's schema definition language)."""
    return f"{build_schema().as_str().rstrip()}\n"
