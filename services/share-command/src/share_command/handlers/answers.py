"""Answers as they are stored with their command id. No address is stored: a recipient is his place in the
command, and what was wrong with an address is found again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

from contracts.base import Order
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    CommandAccepted,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
    RevokeShare,
)
from contracts.events import AnyShareEvent
from contracts.outcomes import ItemExplanation, ItemOutcome, Outcome
from share_command import domain
from share_command.errors import REFUSALS, IdempotencyConflict, InvalidAddress, Refused, refusal_of
from share_command.handlers.commands import Item
from share_command.handlers.naming import read_address
from share_command.store import StoredCommand

_OUTCOMES: Mapping[str, Outcome] = {
    "ShareRequested": "requested",
    "ShareAccepted": "accepted",
    "ShareRejected": "rejected",
    "ShareChanged": "changed",
    "InvitationResent": "resent",
    "ShareRevoked": "revoked",
    "ShareLeft": "left",
    "ShareExpired": "expired",
}


def digest(order: Order, *, without: str) -> bytes:
    """Same order, same digest, its id aside; a field added later with a default does not change it."""
    body = order.model_dump_json(exclude={without}, exclude_defaults=True)
    return hashlib.sha256(f"{type(order).__name__} {body}".encode()).digest()


def to_json(command: AnyCommand, answer: CommandAccepted | Refused) -> str:
    """The answer of a command as it is stored."""
    if isinstance(answer, CommandAccepted):
        return f'{{"accepted": {answer.model_dump_json()}}}'
    details = dict(answer.details)
    if "recipient" in details:
        details["recipient"] = recipients(command).index(str(details["recipient"]))
    message = None if isinstance(answer, InvalidAddress) else answer.message  # it may repeat the address
    return json.dumps({"refused": {"code": answer.code, "message": message, "details": details}})


def recipients(command: AnyCommand) -> tuple[str, ...]:
    """The recipients that a command names."""
    match command:
        case RequestShare() | RevokeShare() | LeaveShare():
            return command.recipients
        case RemoveRecipient():
            return (command.recipient,)
        case AcceptShare() | RejectShare() | ChangeShare() | ResendInvitation():
            return ()
        case _:
            assert_never(command)


def from_json(command: AnyCommand, body_digest: bytes, stored: StoredCommand) -> CommandAccepted:
    """Give the stored answer again.

    Raises:
        Refused: as it was then.
        IdempotencyConflict: the id was used for another command.
    """
    result = _result(body_digest, stored, {"accepted", "refused"})
    if "accepted" in result:
        return CommandAccepted.model_validate(result["accepted"])
    refused = result["refused"]
    kind, details = refusal_of(refused["code"]), refused["details"]
    if "recipient" in details:
        details["recipient"] = recipients(command)[details["recipient"]]
    raise kind(refused["message"] or _what_is_wrong(kind, details), **details)


def items_to_json(command: RequestShare, items: Sequence[ItemOutcome], positions: Sequence[object]) -> str:
    """The outcomes of one device of a bulk as they are stored."""
    places = {written: place for place, written in enumerate(command.recipients)}
    stored: list[dict[str, Any]] = []
    for item in items:
        fields = item.model_dump(mode="json", exclude_none=True)
        if "recipient" in fields:
            fields["recipient"] = places[fields["recipient"]]
        if item.code in _ADDRESS_CODES:
            fields.pop("message", None)
        stored.append(fields)
    return json.dumps({"items": stored, "positions": [str(position) for position in positions]})


def items_from_json(
    command: RequestShare, body_digest: bytes, stored: StoredCommand
) -> tuple[list[ItemOutcome], list[str]]:
    """The outcomes of one device of a bulk again, and its positions; raises IdempotencyConflict."""
    result = _result(body_digest, stored, {"items"})
    items: list[ItemOutcome] = []
    for fields in result["items"]:
        if "recipient" in fields:
            fields["recipient"] = command.recipients[fields["recipient"]]
        if fields.get("code") in _ADDRESS_CODES:
            fields["message"] = _what_is_wrong(REFUSALS[fields["code"]], fields)
        items.append(ItemOutcome.model_validate(fields))
    return items, result["positions"]


_ADDRESS_CODES = frozenset(code for code, kind in REFUSALS.items() if issubclass(kind, InvalidAddress))


def _result(body_digest: bytes, stored: StoredCommand, kinds: set[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(stored.result)
    if stored.digest != body_digest or not kinds & result.keys():
        raise IdempotencyConflict
    return result


def _what_is_wrong(kind: type[Refused], details: Mapping[str, Any]) -> str | None:
    """What was said of an address that is none, said again."""
    if issubclass(kind, InvalidAddress):
        try:
            read_address(str(details.get("recipient")))
        except InvalidAddress as error:
            return error.message
    return None


def outcome(item: Item) -> ItemOutcome:
    """What became of an item."""
    if item.refusal is not None:
        return ItemOutcome(**_refused(item.refusal), **_about(item), outcome="refused")
    return ItemOutcome(**_about(item), outcome=_outcome(item.events), share_id=_share_id(item))


def explanation(item: Item, now: datetime) -> ItemExplanation:
    """What would become of an item."""
    told = outcome(item)
    if item.before is None:  # the share would get an id of its own
        told = told.model_copy(update={"share_id": None})
    before, after = item.before, _after(item, now)
    return ItemExplanation(
        **told.model_dump(),
        state_before=None if before is None else before.state,
        state_after=None if after is None else after.state,
        permissions_before=_effective(before, item),
        permissions_after=_effective(after, item),
    )


def _about(item: Item) -> dict[str, Any]:
    return {"device_id": item.device_id, "recipient": item.recipient}


def _refused(refusal: Refused) -> dict[str, Any]:
    return {
        "code": refusal.code,
        "message": refusal.message,
        "service_id": refusal.details.get("service_id"),
    }


def _outcome(events: Sequence[AnyShareEvent]) -> Outcome:
    return _OUTCOMES[type(events[-1]).__name__] if events else "unchanged"


def _share_id(item: Item) -> Any:
    if item.events:
        return item.events[-1].share_id
    return None if item.before is None else item.before.share_id


def _after(item: Item, now: datetime) -> domain.Share | None:
    share = item.before
    for event in item.events:
        version = 1 if share is None else share.version + 1
        share = domain.evolve(share, event, version, now)
    return share


def _effective(share: domain.Share | None, item: Item) -> dict[str, Any]:
    terms = share.terms if share is not None and share.live else None
    return dict(domain.effective(terms, item.device))
