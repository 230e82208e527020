"""An explanation tells what handling the same command then does, and does nothing itself."""

import asyncio
import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
    RevokeShare,
)
from contracts.events import ShareEvent
from contracts.outcomes import Explanation
from contracts.permissions import Permission, Terms
from servicekit import pg
from share_command.domain import Device, effective
from share_command.errors import RateLimited, Refused
from share_command.handlers import Handlers, Limits

Plan = tuple[type[AnyCommand], str, dict[str, Any], int]

ACTORS = st.sampled_from(["owner", "owner", "owner", "rival", "ann", "bob"])
DEVICES = st.lists(
    st.sampled_from(["d0", "d0", "d1", "d2", "d1-ssh", "foreign", "gone"]), min_size=1, max_size=3
)
PEOPLE = st.lists(
    st.sampled_from(
        ["ann@x.test", "ann@x.test", "bob@x.test", "p1@x.test", "p2@x.test", "owner@x.test", "no"]
    ),
    min_size=1,
    max_size=3,
)
PERMISSIONS = st.sampled_from(["all", ["live_view"], ["connect", "ptz"]])
HOURS = st.sampled_from([None, None, None, -1, 1, 48])
CHANGES = st.lists(
    st.fixed_dictionaries(
        {
            "service_id": st.sampled_from(["d0-ssh", "d0-web", "d1-ssh", "d1-web", "d2-ssh", "nothing"]),
            "action": st.sampled_from(["ADD", "ADD", "REMOVE"]),
            "permissions": PERMISSIONS,
        }
    ),
    max_size=3,
)
SCOPES = st.fixed_dictionaries({"kind": st.just("all"), "permissions": PERMISSIONS}) | st.fixed_dictionaries(
    {
        "kind": st.just("some"),
        "services": st.dictionaries(st.sampled_from(["d0-ssh", "d0-web", "d1-ssh"]), PERMISSIONS, max_size=2),
    }
)


def plans() -> st.SearchStrategy[Plan]:
    """A kind of command, who sends it, its fields, and which of the shares there are it names."""
    wide: dict[str, st.SearchStrategy[Any]] = {"device_ids": DEVICES, "recipients": PEOPLE}
    request = wide | {
        "services": CHANGES, "permissions": PERMISSIONS, "scripting": st.sampled_from([None, True, False]),
        "starts_at": HOURS, "ends_at": HOURS, "expires_at": HOURS,
    }  # fmt: skip
    kinds: list[tuple[type[AnyCommand], dict[str, st.SearchStrategy[Any]]]] = [
        (RequestShare, request),
        (RequestShare, wide),
        (RevokeShare, wide),
        (LeaveShare, {"device_ids": DEVICES}),
        (RemoveRecipient, {"recipient": PEOPLE.map(lambda people: people[0])}),
        (AcceptShare, {}),
        (AcceptShare, {}),
        (RejectShare, {}),
        (ResendInvitation, {}),
        (ChangeShare, {"scope": SCOPES, "starts_at": HOURS, "ends_at": HOURS}),
    ]
    return st.one_of(
        *(
            st.tuples(st.just(kind), ACTORS, st.fixed_dictionaries(fields), st.integers(0, 5))
            for kind, fields in kinds
        )
    )


async def command_of(world: Any, plan: Plan, command_id: str) -> AnyCommand | None:
    """The command of a plan, now that it is known which shares there are."""
    kind, actor, drawn, which = plan
    fields = dict(drawn)
    for name in ("starts_at", "ends_at", "expires_at"):
        if fields.get(name) is not None:
            fields[name] = world.now + timedelta(hours=fields[name])
    if kind in (AcceptShare, RejectShare, ResendInvitation, ChangeShare):
        rows = await world.pool.fetch(
            "select share_id, device_id, version, invitation_version, account_id, address"
            " from share join contact using (contact_id) order by device_id, address"
        )
        if not rows:
            return None
        row = rows[which % len(rows)]
        fields |= {"share_id": row["share_id"], "device_id": row["device_id"]}
        if kind in (AcceptShare, RejectShare) and which < 4:
            actor = row["address"].removeprefix("mailto:").split("@")[0]
        if kind is AcceptShare:
            fields["invitation_version"] = row["invitation_version"]
        if kind is ChangeShare:
            fields["expected_version"] = row["version"] + which // 5
            fields["terms"] = {
                name: fields.pop(name) for name in ("scope", "starts_at", "ends_at") if name in fields
            }
    return kind.model_validate({"command_id": command_id, "actor": actor, **fields})


OUTCOMES = {
    "ShareRequested": "requested", "ShareAccepted": "accepted", "ShareRejected": "rejected",
    "ShareChanged": "changed", "InvitationResent": "resent", "ShareRevoked": "revoked", "ShareLeft": "left",
    "ShareExpired": "expired",
}  # fmt: skip


async def assert_told_true(world: Any, explained: Explanation, command: AnyCommand) -> None:
    """What was told is what has become of each share."""
    last: dict[Any, str] = {}
    for message in await world.events():
        if message.causationid == command.command_id:
            assert isinstance(message.data, ShareEvent)
            last[message.data.share_id] = OUTCOMES[type(message.data).__name__]
    rows = await world.pool.fetch("select share_id, device_id, state, terms from share")
    shares = {row["share_id"]: row for row in rows}
    supported = {
        row["device_id"]: json.loads(row["services"])
        for row in await world.pool.fetch(
            "select device_id, jsonb_object_agg(service_id, permissions) as services"
            " from device_service group by 1"
        )
    }
    happened = [item for item in explained.items if item.outcome != "unchanged"]
    assert len(happened) == len(last), "each event was told"
    known = {item.share_id for item in happened}
    fresh = sorted(outcome for share_id, outcome in last.items() if share_id not in known)
    assert fresh == sorted(item.outcome for item in happened if item.share_id is None)
    for item in explained.items:
        share = shares.get(item.share_id)
        if share is None:
            assert item.share_id is None, "a share that would be new has no id yet"
            continue
        if item.share_id in last:
            assert last[item.share_id] == item.outcome
        assert share["state"] == item.state_after
        device_id = share["device_id"]
        services = {
            name: frozenset(Permission(each) for each in permissions)
            for name, permissions in supported.get(device_id, {}).items()
        }
        terms = (
            Terms.model_validate_json(share["terms"]) if share["state"] in ("requested", "active") else None
        )
        device = Device(device_id, "", services) if services else None
        assert dict(item.permissions_after) == effective(terms, device)


@pytest.mark.timeout(120)
@settings(
    max_examples=80, derandomize=True, phases=[Phase.generate], deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    history=st.lists(st.tuples(plans(), st.sampled_from([0, 0, 5, 24 * 60, 31 * 24 * 60])), max_size=7),
    last=plans(),
    rule=st.booleans(),
)
async def test_an_explanation_is_what_then_happens(
    world: Any, pool: pg.Pool, history: list[tuple[Plan, int]], last: Plan, rule: bool
) -> None:
    await pool.execute(
        "truncate share, event, outbox, command, contact_book, contact, device_stream, always_accept cascade"
    )
    woken: list[str] = []
    handlers = Handlers(
        pool,
        lambda: woken.append("x"),
        clock=world.clock,
        limits=Limits(shares_per_device=3, shares_per_owner=5),
    )
    if rule:
        async with world.api("bob") as bob:
            await bob.put("/v1/always-accept/owner")
    for number, (plan, minutes) in enumerate(history):
        command = await command_of(world, plan, f"h{number}")
        if command is not None:
            with contextlib.suppress(Refused, RateLimited):
                await handlers.handle(command)
        world.later(minutes=minutes)
    command = await command_of(world, last, "last")
    if command is None:
        return
    before = await world.dump()
    woken.clear()
    explained = await handlers.explain(command)
    assert await world.dump() == before, "nothing is done"
    assert woken == [], "nothing is published"
    try:
        await handlers.handle(command)
    except (Refused, RateLimited) as refused:
        assert not explained.would_be_accepted
        assert (explained.code, explained.message) == (refused.code, refused.message)
        after = await world.dump()
        del before["command"], after["command"]
        assert after == before
    else:
        assert explained.would_be_accepted, explained
        await assert_told_true(world, explained, command)


async def test_what_would_be_refused_is_told_for_each(world: Any) -> None:
    handlers: Handlers = world.handlers
    people = ("ann@x.test", "no address", "owner@x.test")
    command = RequestShare(command_id="c", actor="owner", device_ids=("d0", "gone"), recipients=people)
    explained = await handlers.explain(command)
    assert {(item.device_id, item.recipient): item.code or item.outcome for item in explained.items} == {
        ("d0", "no address"): "INVALID_EMAIL", ("d0", "ann@x.test"): "requested",
        ("d0", "owner@x.test"): "SELF_SHARE", ("gone", "no address"): "INVALID_EMAIL",
        ("gone", "ann@x.test"): "DEVICE_NOT_FOUND", ("gone", "owner@x.test"): "DEVICE_NOT_FOUND",
    }  # fmt: skip
    assert (explained.would_be_accepted, explained.code) == (False, "INVALID_EMAIL")


async def test_permissions_before_and_after(world: Any) -> None:
    await world.handle(RequestShare, "c1", "owner", device_ids=("d0",), recipients=("ann@x.test",))
    async with world.api("owner") as owner:
        body = {"command_id": "x", "device_ids": ["d0"], "recipients": ["ann@x.test"], "scripting": True,
                "services": [{"service_id": "d0-ssh", "action": "REMOVE"}]}  # fmt: skip
        answer = await owner.post("/v1/explanations/RequestShare", json=body)
    (item,) = answer.json()["items"]
    assert (item["outcome"], item["state_before"], item["state_after"]) == (
        "changed",
        "requested",
        "requested",
    )
    assert item["permissions_before"] == {"d0-ssh": ["connect"], "d0-web": ["connect"]}
    assert item["permissions_after"] == {"d0-web": ["connect", "scripting"]}
    assert await world.said() == ["ShareRequested"]


async def test_explanations_beside_commands_hold_nobody_up_for_good(world: Any) -> None:
    command = RequestShare(command_id="e", actor="owner", device_ids=("d0", "d1"), recipients=("ann@x.test",))

    async def ask(number: int) -> None:
        await world.handlers.explain(command)
        await world.handle(
            RequestShare, f"c{number}", "owner", device_ids=("d1", "d0"), recipients=(f"p{number}@x.test",)
        )

    await asyncio.gather(*(ask(number) for number in range(12)))
    assert (await world.said()).count("ShareRequested") == 24


async def test_a_stranger_is_told_what_he_is_told_of_a_device_that_does_not_exist(world: Any) -> None:
    await world.handle(RequestShare, "c1", "owner", device_ids=("d0",), recipients=("ann@x.test",))
    await world.accept("d0")
    share_id = (await world.events("d0"))[0].data.share_id
    async with world.api("eve") as eve:
        for name, named in (("RequestShare", "device_ids"), ("RevokeShare", "device_ids"),
                            ("LeaveShare", "device_ids")):  # fmt: skip
            answers: list[str] = []
            for device in ("d0", "none"):
                body: dict[str, Any] = {"command_id": "x", named: [device]}
                if name != "LeaveShare":
                    body["recipients"] = ["ann@x.test", "bob@x.test"]
                answer = await eve.post(f"/v1/explanations/{name}", json=body)
                answers.append(answer.text.replace(device, "it"))
            assert answers[0] == answers[1], name
            assert "DEVICE_NOT_FOUND" in answers[0]
        for name in ("RejectShare", "ResendInvitation"):
            body = {"command_id": "x", "device_id": "d0", "share_id": str(share_id)}
            answer = (await eve.post(f"/v1/explanations/{name}", json=body)).json()
            assert answer["code"] == "DEVICE_NOT_FOUND"
            assert not any(item["state_before"] or item["permissions_before"] for item in answer["items"])
