"""Shares follow the directories: exactly once, also redelivered, also beside commands that race."""

import asyncio
import random
from typing import Any

import pytest

from contracts.commands import AcceptShare, ChangeShare, LeaveShare, RequestShare, RevokeShare
from contracts.directory import AccountSnapshot
from servicekit import pg
from share_command.errors import DeviceNotFound, ShareCommandError

ANN = AccountSnapshot(account_id="ann", name="Ann", verified_emails=("ann@x.test",))


async def invite(
    world: Any, command_id: str, *devices: str, to: tuple[str, ...] = ("ann@x.test",), **more: Any
) -> None:
    await world.handle(RequestShare, command_id, "owner", device_ids=devices, recipients=to, **more)


async def shared(world: Any) -> None:
    """d0 is shared with ann (accepted, two services listed) and bob (invited, everything)."""
    services = ({"service_id": "d0-ssh"}, {"service_id": "d0-web"})
    await invite(world, "c1", "d0", services=services)
    await world.accept("d0")
    await invite(world, "c2", "d0", to=("bob@x.test",))


BEFORE = ["ShareRequested", "ShareAccepted", "ShareRequested"]
CHANGES: list[tuple[str, list[str], list[tuple[str, str]]]] = [
    ("device_removed", ["ShareRevoked:device_removed"] * 2, []),
    ("ownership_transferred", ["ShareRevoked:ownership_transferred"] * 2, []),
    ("one_service_removed", ["ShareChanged:service_removed"], [("d0", "active"), ("d0", "requested")]),
    ("services_removed", ["ShareRevoked:service_removed"], [("d0", "requested")]),
    ("service_added", [], [("d0", "active"), ("d0", "requested")]),
    ("recipient_deleted", ["ShareRevoked:account_deleted"], [("d0", "requested")]),
    ("owner_deleted", ["ShareRevoked:account_deleted"] * 2, []),
]


def change(world: Any, what: str) -> Any:
    return {
        "device_removed": ("device", "d0"),
        "ownership_transferred": world.device("d0", "ssh", "web", owner="rival"),
        "one_service_removed": world.device("d0", "ssh"),
        "services_removed": world.device("d0", "other"),
        "service_added": world.device("d0", "ssh", "web", "new"),
        "recipient_deleted": ("account", "ann"),
        "owner_deleted": ("account", "owner"),
    }[what]


@pytest.mark.parametrize(("what", "events", "live"), CHANGES)
async def test_shares_follow(world: Any, what: str, events: list[str], live: list[tuple[str, str]]) -> None:
    await shared(world)
    await world.directory(change(world, what))
    assert await world.said("d0") == BEFORE + events
    assert await world.live() == live
    before = await world.dump()
    await world.directory(change(world, what), change(world, what))
    assert await world.dump() == before, "redelivered, it is done"
    for message in (await world.events("d0"))[len(BEFORE) :]:
        assert message.causationid == f"directory.{'accounts' if 'deleted' in what else 'devices'}/0/0"
    sent = await world.pool.fetchval("select count(*) from outbox where topic = 'share.events'")
    assert sent == len(BEFORE) + len(events)


async def test_a_batch_is_followed_step_by_step(world: Any) -> None:
    """One service less, another owner, removed, there again: what was shared does not come back."""
    await shared(world)
    await world.directory(
        world.device("d0", "ssh"), world.device("d0", "ssh", owner="rival"), ("device", "d0"),
        world.device("d0", "ssh", "web"), ("account", "ann"), ANN,
    )  # fmt: skip
    assert await world.said("d0") == [
        *BEFORE,
        "ShareChanged:service_removed",
        *["ShareRevoked:ownership_transferred"] * 2,
    ]
    assert await world.live() == []
    await invite(world, "c3", "d0")
    assert await world.live() == [("d0", "requested")], "and it can be shared anew"


async def test_a_deleted_account_loses_its_book_and_its_rules(world: Any, pool: pg.Pool) -> None:
    await shared(world)
    async with world.api("ann") as ann:
        assert (await ann.put("/v1/always-accept/owner")).status_code == 204
    async with world.api("owner") as owner:
        assert (await owner.put("/v1/always-accept/rival")).status_code == 204
    await world.directory(("account", "owner"))
    assert await pool.fetchval("select count(*) from contact_book") == 0
    assert await pool.fetchval("select count(*) from always_accept") == 0


async def racing(world: Any, command: Any, after: Any, rounds: int) -> None:
    """Commands and a change of the directory at once, in changing order."""
    chance = random.Random(7)
    for number in range(rounds):
        tasks = [command(number, step) for step in range(4)]
        tasks.insert(chance.randrange(5), after(number))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            assert result is None or isinstance(result, ShareCommandError), repr(result)


async def test_nothing_lives_on_a_device_that_goes_while_it_is_shared(world: Any) -> None:
    everyone = ("ann", "bob", "eve", "x1")

    async def command(number: int, step: int) -> None:
        await invite(world, f"c{number}-{step}", f"d{number}", to=(f"{everyone[step]}@x.test",))

    async def removed(number: int) -> None:
        await world.directory(("device", f"d{number}"))

    await racing(world, command, removed, 25)
    assert await world.live() == []
    said = await world.said()
    assert said.count("ShareRequested") == said.count("ShareRevoked:device_removed")


async def test_nothing_of_the_former_owner_lives_when_it_is_sold_meanwhile(world: Any, pool: pg.Pool) -> None:
    async def command(number: int, step: int) -> None:
        if step % 2:
            await world.handle(
                RequestShare,
                f"c{number}-{step}",
                "rival",
                device_ids=(f"d{number}",),
                recipients=("eve@x.test",),
            )
        else:
            await invite(world, f"c{number}-{step}", f"d{number}", to=(f"{('ann', '', 'bob')[step]}@x.test",))

    async def sold(number: int) -> None:
        await world.directory(world.device(f"d{number}", "ssh", owner="rival"))

    await racing(world, command, sold, 25)
    owners = await pool.fetch(
        "select distinct owner_account_id from share where state in ('requested', 'active')"
    )
    assert {row["owner_account_id"] for row in owners} <= {"rival"}


async def test_no_listed_service_lives_that_is_gone(world: Any, pool: pg.Pool) -> None:
    for number in range(15):
        await invite(world, f"a{number}", f"d{number}", services=({"service_id": f"d{number}-web"},))
    shares = {
        row["device_id"]: row for row in await pool.fetch("select device_id, share_id, version from share")
    }
    both = [{"service_id": "d0-ssh"}, {"service_id": "d0-web"}]
    await invite(world, "c0", "d0", to=("carol@x.test",), services=both)  # of which something is left

    async def command(number: int, step: int) -> None:
        name, both = f"d{number}", ({"service_id": f"d{number}-ssh"}, {"service_id": f"d{number}-web"})
        if step == 0:
            await invite(world, f"b{number}", name, to=("bob@x.test",), services=both)
        elif step == 1:
            await world.handle(
                ChangeShare, f"e{number}", "owner", device_id=name, share_id=shares[name]["share_id"],
                expected_version=shares[name]["version"],
                terms={"scope": {"kind": "some", "services": {f"{name}-ssh": "all", f"{name}-web": "all"}}},
            )  # fmt: skip
        elif step == 2:
            await world.handle(
                AcceptShare, f"y{number}", "ann", device_id=name, share_id=shares[name]["share_id"],
                invitation_version=shares[name]["version"],
            )  # fmt: skip
        else:
            await world.handle(
                RevokeShare, f"r{number}", "owner", device_ids=(name,), recipients=("eve@x.test",)
            )

    async def narrowed(number: int) -> None:
        await world.directory(world.device(f"d{number}", "ssh"))

    await racing(world, command, narrowed, 15)
    rows = await pool.fetch("select terms from share where state in ('requested', 'active')")
    assert rows
    assert not [row["terms"] for row in rows if "-web" in row["terms"]]


async def test_nothing_is_a_deleted_accounts_that_accepts_meanwhile(world: Any, pool: pg.Pool) -> None:
    """By itself, by its rule, or leaving: whichever comes first, nothing is left that it has."""
    for number in range(20):
        await world.directory(ANN)
        async with world.api("ann") as ann:
            await ann.put("/v1/always-accept/rival")
        await world.directory(world.device(f"r{number}", "ssh", owner="rival"))
        await invite(world, f"a{number}", f"d{number}")

        invitation = await world.invitation(f"d{number}")

        async def accepts(invitation: dict[str, Any] = invitation) -> None:
            await world.handle(AcceptShare, invitation.pop("command_id"), "ann", **invitation)

        async def by_rule(number: int = number) -> None:
            await world.handle(
                RequestShare, f"b{number}", "rival", device_ids=(f"r{number}",), recipients=("ann@x.test",)
            )

        async def leaves(number: int = number) -> None:
            await world.handle(LeaveShare, f"l{number}", "ann", device_ids=(f"d{number}",))

        tasks = [accepts(), by_rule(), leaves()]
        tasks.insert(number % 4, world.directory(("account", "ann")))
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, ShareCommandError), repr(result)
        assert (
            await pool.fetchval("select count(*) from share where account_id = 'ann' and state = 'active'")
            == 0
        )


async def test_nothing_more_is_done_in_the_name_of_a_deleted_account(world: Any) -> None:
    await invite(world, "c1", "d0")
    await world.directory(("account", "owner"))
    for recipient in ("bob@x.test", "owner@x.test"):
        with pytest.raises(DeviceNotFound):
            await invite(world, f"c2{recipient}", "d1", to=(recipient,))
    assert await world.live() == []
    owner = AccountSnapshot(account_id="owner", name="Owner", verified_emails=("owner@x.test",))
    await world.directory(owner)
    await invite(world, "c3", "d1")
    assert await world.live() == [("d1", "requested")]


async def test_deletions_are_told_in_their_order_and_again_when_it_is_there_again(world: Any) -> None:
    async def told(after: int = 0) -> list[tuple[str, bool]]:
        nonlocal last
        async with world.api("portal") as api:
            items = (await api.get("/v1/deleted-accounts", params={"after": after})).json()["items"]
        last = max([after, *(item["number"] for item in items)])
        return [(item["account_id"], item["there_again"]) for item in items]

    last = 0
    await world.directory(("account", "eve"), ("account", "ann"))
    assert await told() == [("eve", False), ("ann", False)]
    await world.directory(("account", "eve"), ("account", "ann"))
    assert await told(last) == [], "redelivered, it is known"
    await world.directory(ANN, ANN)
    assert await told(last) == [("ann", True)]
    await world.directory(("account", "ann"), ANN)
    assert await told(last) == [("ann", True)], "gone and there again in one batch: still told"
    assert await told() == [("eve", False), ("ann", True)]


async def test_no_deletion_is_missed_by_who_goes_on_while_others_are_stored(world: Any) -> None:
    names = [f"p{number}" for number in range(40)]
    found: list[str] = []
    after = 0
    storing = asyncio.gather(*(world.directory(("account", name)) for name in names))
    async with world.api("portal") as api:
        while len(found) < len(names):
            done = storing.done()
            items = (await api.get("/v1/deleted-accounts", params={"after": after, "size": 3})).json()[
                "items"
            ]
            found += [item["account_id"] for item in items]
            after = max([after, *(item["number"] for item in items)])
            assert items or not done, found
    assert sorted(found) == sorted(names)
