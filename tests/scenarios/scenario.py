"""The form of a scenario file. A key that is misspelt, or unknown, is an error.

A scenario is a small world, steps that change it, and what must hold after each step. Times are written as a
number and a unit (``90s``, ``5m``, ``2h``, ``31d``) and count from the start of the scenario, but for
``wait``, which counts from the step before.

Addresses stand as people write them. Runs on shared servers give every device, account and address a name of
its own: a telephone number needs the digits 555 for that, which are replaced.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from contracts.commands import ServiceChange
from contracts.permissions import Permission, PermissionSet

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: object) -> object:
    match = re.fullmatch(r"(\d+)([smhd])", value) if isinstance(value, str) else None
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
State = Literal["requested", "active", "rejected", "revoked", "left", "expired"]
Template = Literal["invitation", "invitation_changed"]
Stranger = str
"""An account, device, service or address by the name that it has in the file."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceFacts(_Strict):
    """A device as its registry has it: service → what it supports."""

    owner: Stranger
    services: dict[Stranger, list[Permission]]


class _By(_Strict):
    """Somebody's command. ``id`` is its command id; by default one of its own."""

    by: Stranger
    id: str | None = None


class Request(_By):
    """RequestShare."""

    devices: list[Stranger]
    to: list[Stranger]
    services: list[ServiceChange] = []
    permissions: PermissionSet = "all"
    scripting: bool | None = None
    notify: bool = True
    starts: Duration | None = None
    ends: Duration | None = None
    expires: Duration | None = None
    message: str | None = None


class Revoke(_By):
    """RevokeShare."""

    devices: list[Stranger]
    to: list[Stranger]


class Leave(_By):
    """LeaveShare."""

    devices: list[Stranger]
    to: list[Stranger] = []


class Remove(_By):
    """RemoveRecipient."""

    recipient: Stranger


class OnShare(_By):
    """What names one share: that of a device with an address."""

    device: Stranger
    address: Annotated[Stranger, Field(alias="with")]


class Accept(OnShare):
    """AcceptShare. ``seen`` is the version of the invitation; by default the newest."""

    seen: int | None = None


class Reject(OnShare):
    """RejectShare."""


class Resend(OnShare):
    """ResendInvitation."""


class Change(OnShare):
    """ChangeShare. ``seen`` is the version of the share, by default the newest. All services, or a list."""

    seen: int | None = None
    all: PermissionSet | None = None
    services: dict[Stranger, PermissionSet] | None = None
    scripting: bool = False
    starts: Duration | None = None
    ends: Duration | None = None
    message: str | None = None
    notify: bool = True

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if (self.all is None) == (self.services is None):
            raise ValueError("a change has either `all` or `services`")
        return self


class Bulk(Request):
    """BulkShare; ``id`` is the operation id."""


class DeviceNow(_Strict):
    """The registry says something new of a device; ``now`` null: it is gone."""

    device: Stranger
    now: DeviceFacts | None


class AccountNow(_Strict):
    """The registry says something new of an account: its verified addresses; null: it is deleted."""

    account: Stranger
    now: list[Stranger] | None


class Rule(_Strict):
    """A recipient's rule: always accept from this owner, or no more."""

    by: Stranger
    owner: Stranger
    always: bool = True


class Note(_Strict):
    """The owner puts an address into his book, with a remark that only he can see."""

    by: Stranger
    address: Annotated[Stranger, Field(alias="with")]
    remark: str


class ShowCode(_Strict):
    """An account shows its contact code, which the file calls ``code``."""

    by: Stranger
    code: str


class Scan(_Strict):
    """Somebody scans it; ``finds`` is the address that stands in his book then."""

    by: Stranger
    code: str
    finds: Stranger | None = None


class GraphQL(_Strict):
    """A document through the portal: ``{name}`` stands for the device, service or address of that name.

    ``answer`` is the body, byte for byte; ``code`` the code of the refusal; neither: it is no success.
    """

    by: Stranger
    query: str
    answer: str | None = None
    code: str | None = None


class Command(_Strict):
    """Any one command."""

    request: Request | None = None
    revoke: Revoke | None = None
    leave: Leave | None = None
    remove: Remove | None = None
    accept: Accept | None = None
    reject: Reject | None = None
    resend: Resend | None = None
    change: Change | None = None

    @property
    def order(self) -> "AnyOrder":
        """The one that it is."""
        given = [order for name in _ORDERS if (order := getattr(self, name)) is not None]
        if len(given) != 1:
            raise ValueError(f"one command, please: {_ORDERS}")
        return given[0]


AnyOrder = Request | Revoke | Leave | Remove | Accept | Reject | Resend | Change
_ORDERS = ("request", "revoke", "leave", "remove", "accept", "reject", "resend", "change")


class Verdict(_Strict):
    """May the account use this permission on this service at that time (by default now)?"""

    account: Stranger
    permission: Permission
    service: Stranger
    at: Duration | None = None


class Listed(_Strict):
    """A row of the owner's access list: all services with these permissions, or those listed."""

    state: State
    all: PermissionSet | None = None
    services: dict[Stranger, PermissionSet] | None = None
    scripting: bool = False


class Private(_Strict):
    """``text`` is in nothing that anybody but ``owner`` can get: no event, other table, mail, API answer."""

    text: str
    owner: Stranger


class Expect(_Strict):
    """What must hold. Each list is whole for what it names: nothing else is there."""

    states: dict[Stranger, dict[Stranger, State]] = {}
    """Device → address → state, all shares that there ever were."""
    access: dict[Stranger, dict[Stranger, list[Permission]]] = {}
    """Account → service → what the account may do on it now by a share."""
    can: list[Verdict] = []
    cannot: list[Verdict] = []
    notices: dict[Stranger, list[Template]] = {}
    """Address → all notices that came there so far."""
    listed: dict[Stranger, dict[Stranger, Listed]] = {}
    """Device → address → the owner's access list: open invitations and grants."""
    book: dict[Stranger, dict[Stranger, str | None]] = {}
    """Account → address → remark."""
    messages: dict[Stranger, dict[Stranger, str]] = {}
    """Account → device → the owner's words, of the shares that this account can see."""
    private: list[Private] = []
    """Looked for on the real stack and in the pure core's events."""


class Would(_Strict):
    """What a dry run says of one share."""

    outcome: str
    state: State | None = None
    permissions: dict[Stranger, PermissionSet] = {}


class Step(Command):
    """One act, what came of it at once, and what must hold then. No act at all is a look."""

    bulk: Bulk | None = None
    explain: Command | None = None
    device: DeviceNow | None = None
    account: AccountNow | None = None
    rule: Rule | None = None
    note: Note | None = None
    show_code: ShowCode | None = None
    scan: Scan | None = None
    wait: Duration | None = None
    graphql: GraphQL | None = None

    refused: str | None = None
    """The code of the refusal; absent: it is taken. For a dry run: the code that it says."""
    events: list[str] | None = None
    """What was appended, in order, by the names of the events without ``Share`` at their beginning."""
    outcomes: dict[Stranger, dict[Stranger, str]] | None = None
    """Of a bulk: device → recipient as written → outcome, or the code of the refusal."""
    would: dict[Stranger, dict[Stranger, Would]] | None = None
    """Of a dry run: device → recipient as written (``-``: none was named) → what would be then."""
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _one_act(self) -> Self:
        acts = [name for name in (*_ORDERS, *_OTHERS) if getattr(self, name) is not None]
        if len(acts) > 1:
            raise ValueError(f"one act a step, please, not {acts}")
        return self

    @property
    def is_command(self) -> bool:
        """Whether the act is one of the commands."""
        return any(getattr(self, name) is not None for name in _ORDERS)


_OTHERS = (
    "bulk", "explain", "device", "account", "rule", "note", "show_code", "scan", "wait", "graphql",
)  # fmt: skip


class LimitsOf(_Strict):
    """Limits of this scenario; by default they are far away."""

    shares_per_device: int = 1_000
    shares_per_owner: int = 100_000


class Scenario(_Strict):
    """A file. ``proves`` names rows of the requirements, and rules; ``only: stack``: not on the pure core."""

    title: str
    proves: Annotated[list[str], Field(min_length=1)]
    only: Literal["stack"] | None = None
    limits: LimitsOf = LimitsOf()
    accounts: dict[Stranger, list[Stranger]]
    devices: dict[Stranger, DeviceFacts]
    steps: Annotated[list[Step], Field(min_length=1)]


def load(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ValueError: it has not the form of one.
    """
    document: Any = yaml.safe_load(path.read_text())
    return Scenario.model_validate(document)
