"""Answers the questions of upstream services by the verdict that lets connections through."""

import base64
import hashlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from access_gateway.authzen.messages import (
    MOST_RESULTS,
    RESOURCE,
    SUBJECT,
    Action,
    ActionSearch,
    Decision,
    Decisions,
    Evaluation,
    Evaluations,
    NextPage,
    Resource,
    ResourceSearch,
    Results,
    Subject,
    SubjectSearch,
)
from access_gateway.decisions import Decider
from access_gateway.errors import NotYetVisibleError, UnavailableError, UnusableRequestError
from access_gateway.grants import GrantStore
from access_gateway.pinned import StoreUnavailableError
from access_gateway.policy import AccessRequest, Allowed, Refusal, Verdict
from contracts.base import AccountId, Id, new_id
from contracts.permissions import Permission
from contracts.positions import Position

Positions = tuple[Position, ...]

_ACCOUNT: TypeAdapter[str] = TypeAdapter(AccountId)
_SERVICE: TypeAdapter[str] = TypeAdapter(Id)
_DEVICES_AT_ONCE = 100
_UNPROVED = {
    Refusal.NOT_YET_VISIBLE: "What you refer to has not arrived here yet. Ask again in a moment.",
    Refusal.STALE: "It cannot be proved now. Ask again later.",
    Refusal.UNAVAILABLE: "It cannot be proved now. Ask again later.",
}


class Answers:
    """Decides single questions and lists. Those who ask are trusted: they are told why."""

    def __init__(self, decider: Decider, store: GrantStore) -> None:
        self._decider, self._store = decider, store

    async def evaluate(self, question: Evaluation, positions: Positions) -> Decision:
        """One decision."""
        request = _request(question.subject, question.action, question.resource, positions)
        if request is None:
            return Decision(decision=False, context={"code": Refusal.ACCESS_DENIED, "reason": "no_grant"})
        return _decision(await self._decider.decide(request, new_id()))

    async def evaluate_all(self, questions: Evaluations, positions: Positions) -> Decision | Decisions:
        """A decision for each question, until the semantic says to stop.

        Raises:
            UnusableRequestError: a question is not whole, with its defaults.
        """
        if not questions.evaluations:
            return await self.evaluate(_whole(questions.model_dump()), positions)
        defaults = questions.model_dump(exclude={"evaluations", "options"}, exclude_none=True)
        whole = [_whole({**defaults, **part.model_dump(exclude_none=True)}) for part in questions.evaluations]
        stop = {"deny_on_first_deny": False, "permit_on_first_permit": True}.get(
            questions.options.evaluations_semantic
        )
        found: list[Decision] = []
        for question in whole:
            found.append(await self.evaluate(question, positions))
            if found[-1].decision is stop:
                break
        return Decisions(evaluations=found)

    async def actions(self, search: ActionSearch, positions: Positions) -> Results:
        """What an account may do with a service."""
        found: list[dict[str, str]] = []
        last: Verdict | None = None
        for permission in Permission:
            action = Action(name=permission.value)
            request = _request(search.subject, action, search.resource, positions)
            if request is not None:
                last = await self._decider.decide(request, new_id())
                if _allows(last):
                    found.append({"name": permission.value})
        return Results(
            page=NextPage(next_token="", count=len(found)),
            context={} if last is None else _evidence(last),
            results=found,
        )

    async def subjects(self, search: SubjectSearch, positions: Positions) -> Results:
        """Who may do something with a service, in the order of the accounts' ids."""
        limit, place = _place(search)
        if search.subject.type != SUBJECT:
            return _page([], search, {})
        after = place[0] if place else ""
        request = _request(Subject(type=SUBJECT, id="-"), search.action, search.resource, ())
        if request is None:
            return _page([], search, {})
        await self._prove(positions)
        asked = time.monotonic()
        accounts = await self._accounts(request.service_id)
        found: list[dict[str, str]] = []
        evidence: dict[str, Any] = {}
        for account_id in sorted(each for each in accounts if each > after):
            if len(found) == limit:
                return _page(found, search, evidence, (found[-1]["id"],) if found else (after,))
            answer = await self._judge(
                AccessRequest(account_id, request.service_id, request.permission), asked
            )
            if _allows(answer):
                found.append({"type": SUBJECT, "id": account_id})
                evidence = {key: _evidence(answer)[key] for key in ("position", "age_seconds")}
        return _page(found, search, evidence)

    async def resources(self, search: ResourceSearch, positions: Positions) -> Results:
        """With which services an account may do something: first those of its own devices."""
        limit, place = _place(search)
        probe = _request(search.subject, search.action, Resource(type=RESOURCE, id="-"), ())
        if probe is None or search.resource.type != RESOURCE:
            return _page([], search, {})
        await self._prove(positions)
        found: list[dict[str, str]] = []
        before = place
        async for here, service_id, asked in self._candidates(probe.account_id, place):
            if len(found) == limit:
                return _page(found, search, {}, before)
            before = here
            if _allows(
                await self._judge(AccessRequest(probe.account_id, service_id, probe.permission), asked)
            ):
                found.append({"type": RESOURCE, "id": service_id})
        return _page(found, search, {})

    async def _candidates(
        self, account_id: str, place: tuple[str, ...]
    ) -> AsyncGenerator[tuple[tuple[str, ...], str, float]]:
        """Services after a place, with theirs: whose device it is, its name, its id, and the service's."""
        kinds = ("own", "shared")
        kind, name, device, service = place or ("own", "", "", "")
        for each in kinds[kinds.index(kind) :]:
            while True:
                asked = time.monotonic()
                try:
                    rows = await self._store.services_of(
                        account_id, owned=each == "own", place=(name, device), most=_DEVICES_AT_ONCE
                    )
                    new = [
                        (row_name, row_device, row_service)
                        for row_name, row_device, services in rows
                        for row_service in services
                        if (row_name, row_device, row_service) > (name, device, service)
                    ]
                    await self._store.read([row_service for _, _, row_service in new])
                except StoreUnavailableError:
                    raise _unproved() from None
                for row in new:
                    yield (each, *row), row[2], asked
                if len(rows) < _DEVICES_AT_ONCE:
                    break
                # The last device once more, as it bounds the next page: of it, nothing is left.
                name, device, service = rows[-1][0], rows[-1][1], max(rows[-1][2], default="")
            name = device = service = ""

    async def _accounts(self, service_id: str) -> set[str]:
        try:
            await self._store.read([service_id])
        except StoreUnavailableError:
            raise _unproved() from None
        devices = self._store.devices(service_id)
        return {device.owner_account_id for device in devices} | {
            account_id for device in devices for account_id in device.shares
        }

    async def _judge(self, request: AccessRequest, asked: float) -> Verdict:
        """The verdict by what has been read since then; read again if it is not in memory any more."""
        answer = self._decider.check_now(request, asked=asked)
        return answer or await self._decider.decide(request, new_id())

    async def _prove(self, positions: Positions) -> None:
        if not await self._decider.visible(positions):
            raise NotYetVisibleError


def _request(
    subject: Subject, action: Action, resource: Resource, positions: Positions
) -> AccessRequest | None:
    """The question as the policy reads it; None: nobody could be granted that."""
    if subject.type != SUBJECT or resource.type != RESOURCE:
        return None
    try:
        return AccessRequest(
            _ACCOUNT.validate_python(subject.id),
            _SERVICE.validate_python(resource.id),
            Permission(action.name),
            positions,
        )
    except ValueError:  # ValidationError is one
        return None


def _whole(question: dict[str, Any]) -> Evaluation:
    try:
        return Evaluation.model_validate(question)
    except ValidationError as error:
        missing = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UnusableRequestError(f"A question lacks its {missing}.") from None


def _decision(answer: Verdict) -> Decision:
    context = _evidence(answer)
    if not isinstance(answer, Allowed) and answer.code in _UNPROVED:
        context["error"] = {"status": 503, "message": _UNPROVED[answer.code]}
    return Decision(decision=isinstance(answer, Allowed), context=context)


def _evidence(answer: Verdict) -> dict[str, Any]:
    if not isinstance(answer, Allowed):
        return {"code": answer.code, "reason": answer.reason}
    access = answer.access
    return {
        "code": "ALLOWED",
        "reason": answer.reason,
        "position": f"{access.device_id}@{answer.version}",
        "age_seconds": round(answer.age, 3),
        "share_id": answer.share_id and str(answer.share_id),
        "holds_seconds": None
        if access.until is None
        else round(max(0.0, access.until - time.monotonic()), 3),
    }


def _allows(answer: Verdict) -> bool:
    """Whether it is in the list; a list of which a part cannot be proved is none."""
    if isinstance(answer, Allowed):
        return True
    if answer.code is Refusal.NOT_YET_VISIBLE:
        raise NotYetVisibleError
    if answer.code in _UNPROVED:
        raise _unproved()
    return False


def _unproved() -> UnavailableError:
    return UnavailableError("It cannot be proved now who may do what.")


def _place(search: SubjectSearch | ResourceSearch) -> tuple[int, tuple[str, ...]]:
    """How many results, and where the page before has ended."""
    limit = min(search.page.limit, MOST_RESULTS)
    if not search.page.token:
        return limit, ()
    try:
        mark, *place = json.loads(base64.urlsafe_b64decode(search.page.token))
        if mark != _mark(search) or not all(isinstance(part, str) for part in place):
            raise ValueError("of another search")
        if len(place) != (1 if isinstance(search, SubjectSearch) else 4):
            raise ValueError("of another search")
        if isinstance(search, ResourceSearch) and place[0] not in {"own", "shared"}:
            raise ValueError("of no search")
    except (ValueError, TypeError):
        raise UnusableRequestError(
            "The page's token is not one of this search: send the same entities and limit with it."
        ) from None
    return limit, tuple(place)


def _page(
    found: list[dict[str, str]],
    search: SubjectSearch | ResourceSearch,
    context: dict[str, Any],
    place: tuple[str, ...] | None = None,
) -> Results:
    token = ""
    if place is not None:
        token = base64.urlsafe_b64encode(json.dumps([_mark(search), *place]).encode()).decode()
    return Results(page=NextPage(next_token=token, count=len(found)), context=context, results=found)


def _mark(search: BaseModel) -> str:
    """What tells one search from another: all of it but the token."""
    asked = search.model_dump_json(exclude={"page": {"token"}})
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
