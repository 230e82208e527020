"""The contact book, deleting a recipient, contact codes, telephone numbers, and who always accepts."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from contracts.commands import RemoveRecipient, RequestShare
from contracts.directory import AccountSnapshot
from contracts.links import ContactCode, sign_code
from servicekit import pg
from share_command.errors import ContactNotFound, InvalidPhone, SelfShare
from share_command.handlers import Handlers

DEVICES = tuple(f"d{number}" for number in range(12))


async def invite(
    world: Any, command_id: str, *devices: str, to: tuple[str, ...] = ("ann@x.test",), **more: Any
) -> None:
    fields = {"device_ids": devices or ("d0",), "recipients": to, **more}
    await world.handle(RequestShare, command_id, fields.pop("actor", "owner"), **fields)


async def remove(world: Any, command_id: str, recipient: str, actor: str = "owner") -> Any:
    return await world.handle(RemoveRecipient, command_id, actor, recipient=recipient)


async def book(world: Any, account: str = "owner", **query: Any) -> list[Any]:
    async with world.api(account) as client:
        answer = await client.get("/v1/contacts", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["contacts"]


# Deleting a recipient


async def test_a_recipient_is_deleted_with_all_that_he_has(world: Any) -> None:
    await invite(world, "c1", *DEVICES, to=("ann@x.test", "bob@x.test"))
    await world.accept("d3")
    await invite(world, "c2", "foreign", actor="rival")
    async with world.api("owner") as owner:
        entry = next(item for item in await book(world) if item["address"] == "ann@x.test")
        await owner.put(f"/v1/contacts/{entry['contact_id']}/remark", json={"remark": "the tall one"})
    answer = await remove(world, "c3", "Ann@X.test")
    assert {position.device_id for position in answer.positions} == set(DEVICES)
    said = await world.said()
    assert said.count("ShareRevoked:recipient_deleted") == len(DEVICES)
    assert await world.live() == sorted(
        [*((name, "requested") for name in DEVICES), ("foreign", "requested")]
    )
    assert [item["address"] for item in await book(world)] == ["bob@x.test"]
    assert [item["address"] for item in await book(world, "rival")] == ["ann@x.test"], (
        "another's book is not ours"
    )
    before = await world.dump()
    assert await remove(world, "c3", "Ann@X.test") == answer
    assert (await remove(world, "c4", "ann@x.test")).positions == ()
    assert (await remove(world, "c5", "never@x.test")).positions == ()
    after = await world.dump()
    del before["command"], after["command"]
    assert after == before
    await invite(world, "c6", "d0")
    assert [item["remark"] for item in await book(world) if item["address"] == "ann@x.test"] == [None]


async def test_a_recipient_that_is_shared_with_while_he_is_deleted(world: Any, pool: pg.Pool) -> None:
    """Whichever comes first: afterwards he has all of a request or nothing, and the book agrees."""
    for number in range(15):
        address = f"p{number}@x.test"
        await invite(world, f"a{number}", *DEVICES[:6], to=(address,))
        racing = [
            invite(world, f"b{number}", *DEVICES[6:], to=(address, "bob@x.test")),
            remove(world, f"r{number}", address),
        ]
        if number % 3 == 0:
            twisted = ("bob@x.test", address)
            racing.append(invite(world, f"e{number}", *DEVICES[4:8][::-1], to=twisted, scripting=True))
        await asyncio.gather(*racing)
        rows = await pool.fetch(
            "select device_id from share join contact using (contact_id)"
            " where address = $1 and state = 'requested' order by 1", f"mailto:{address}",
        )  # fmt: skip
        live = {row["device_id"] for row in rows}
        assert live in (set(), set(DEVICES[6:]), set(DEVICES[4:8]), set(DEVICES[4:8]) | set(DEVICES[6:]))
        known = {item["address"] for item in await book(world)}
        assert (address in known) == bool(live)


# The contact book


async def test_the_book_knows_whom_it_was_shared_with_last(world: Any) -> None:
    await invite(world, "c1", to=("ann@x.test", "+49 151 12345678"))
    world.later(seconds=5)
    await invite(world, "c2", to=("bob@x.test",))
    world.later(seconds=5)
    await invite(world, "c3", "d1", to=("ann@x.test",))
    assert [item["address"] for item in await book(world)] == ["ann@x.test", "bob@x.test", "+4915112345678"]
    assert [item["address"] for item in await book(world, containing="X.TEST")] == [
        "ann@x.test",
        "bob@x.test",
    ]
    assert [item["address"] for item in await book(world, size=1)] == ["ann@x.test"]
    assert await book(world, "ann") == []


async def test_remarks_are_kept_by_contact_and_found(world: Any) -> None:
    async with world.api("owner") as owner:
        answer = await owner.post(
            "/v1/contacts", json={"recipient": "Ann@x.test", "remark": "Plumber, 100 % good"}
        )
        assert answer.status_code == 200
        contact_id = answer.json()["contact_id"]
        again = await owner.post("/v1/contacts", json={"recipient": "ann@X.TEST"})
        assert again.json()["contact_id"] == contact_id
        assert [item["remark"] for item in await book(world, containing="plumber, 100 %")] == [
            "Plumber, 100 % good"
        ]
        assert await book(world, containing="100 _") == [], "nothing in it is a pattern"
        for remark, kept in (("x" * 200, "x" * 200), ("two\nlines\t", "two\nlines\t"), ("", None)):
            answer = await owner.put(f"/v1/contacts/{contact_id}/remark", json={"remark": remark})
            assert answer.status_code == 204
            assert [item["remark"] for item in await book(world)] == [kept]
        for wrong in ("x" * 201, "nul\0", "turned\u202earound"):
            answer = await owner.put(f"/v1/contacts/{contact_id}/remark", json={"remark": wrong})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
    async with world.api("rival") as rival:
        answer = await rival.put(f"/v1/contacts/{contact_id}/remark", json={"remark": "mine?"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "CONTACT_NOT_FOUND")


async def test_a_contact_names_a_recipient_in_its_own_book_only(world: Any) -> None:
    async with world.api("owner") as owner:
        added = await owner.post("/v1/contacts", json={"recipient": "ann@x.test"})
    named = f"contact:{added.json()['contact_id']}"
    await invite(world, "c1", "d0", to=(named,))
    assert await world.live() == [("d0", "requested")]
    for wrong in (named, "contact:", "contact:nonsense", "contact:00000000-0000-0000-0000-000000000000"):
        with pytest.raises(ContactNotFound) as refused:
            await invite(world, f"x{wrong}".replace(" ", ""), "foreign", to=(wrong,), actor="rival")
        assert refused.value.details == {"recipient": wrong}
    await remove(world, "c2", named)
    assert await world.live() == []
    with pytest.raises(ContactNotFound):
        await invite(world, "c3", "d0", to=(named,))


async def test_a_contact_of_ones_own_address_is_refused(world: Any) -> None:
    async with world.api("owner") as owner:
        answer = await owner.post("/v1/contacts", json={"recipient": "OWNER@x.test"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "SELF_SHARE")


# Telephone numbers


async def test_a_number_waits_for_the_account_that_verifies_it(world: Any) -> None:
    await invite(world, "c1", "d0", to=("+49 (151) 1234-5678", "+4915112345678"))
    assert await world.live() == [("d0", "requested")]
    with pytest.raises(InvalidPhone) as refused:
        await invite(world, "c2", "d0", to=("0151 12345678",))
    assert refused.value.details == {"recipient": "0151 12345678"}
    with pytest.raises(InvalidPhone) as again:
        await invite(world, "c2", "d0", to=("0151 12345678",))
    assert again.value.message == refused.value.message
    assert "12345678" not in await world.pool.fetchval("select result from command where command_id = 'c2'")
    await world.directory(AccountSnapshot(account_id="zoe", name="Zoe", verified_phones=("+4915112345678",)))
    row = await world.pool.fetchrow("select share_id, contact_id from share")
    handlers: Handlers = world.handlers
    shown = await handlers.outside(
        lambda book: book.invitation(row["share_id"], "d0", row["contact_id"], "zoe")
    )
    assert shown is not None
    assert shown["state"] == "requested"


# Contact codes


async def test_a_code_that_was_shown_is_a_contact_that_can_be_chosen(world: Any, pool: pg.Pool) -> None:
    async with world.api("ann") as ann, world.api("owner") as owner:
        shown = (await ann.post("/v1/contact-codes")).json()
        assert shown["ends_at"] == (world.now + timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
        assert "x.test" not in str(shown)
        scan = await owner.post("/v1/contact-codes/scans", json={"code": shown["code"]})
        assert scan.status_code == 200
        assert scan.json()["name"] == "Ann"
        assert "x.test" not in scan.text
        await owner.post("/v1/contacts", json={"recipient": "bob@x.test"})  # typed, not shown: no name of his
        book = (await owner.get("/v1/contacts")).json()["contacts"]
        assert {entry["address"]: entry["name"] for entry in book} == {
            "ann@x.test": "Ann",
            "bob@x.test": None,
        }
        await invite(world, "c1", "d0", to=(f"contact:{scan.json()['contact_id']}",))
        await world.accept("d0")

        async def refused(client: Any, code: str) -> tuple[int, str]:
            answer = await client.post("/v1/contact-codes/scans", json={"code": code})
            return answer.status_code, answer.json()["error"]["code"]

        invalid = (404, "INVALID_CONTACT_CODE")
        ends_at = world.now + timedelta(minutes=5)
        other = sign_code(ContactCode(account_id="ann", ends_at=ends_at), "t" * 32)
        nobody = sign_code(ContactCode(account_id="nobody", ends_at=ends_at), "s" * 32)
        for code in (other, nobody, "nonsense", shown["code"][:-4], "ö", "a.b\0c"):
            assert await refused(owner, code) == invalid
        assert await refused(ann, shown["code"]) == (422, "SELF_SHARE")
        await pool.execute("delete from account_address where account_id = 'ann'")
        assert await refused(owner, shown["code"]) == invalid
        fresh = (await ann.post("/v1/contact-codes")).json()["code"]
        await world.directory(("account", "ann"))
        assert await refused(owner, fresh) == invalid
        bobs = sign_code(ContactCode(account_id="bob", ends_at=ends_at), "s" * 32)
        world.later(minutes=5)
        assert await refused(owner, bobs) == invalid


# Always accept


async def test_who_always_accepts_has_accepted_at_once(world: Any, pool: pg.Pool) -> None:
    await invite(world, "c0", "d9")
    async with world.api("ann") as ann:
        for _ in range(2):
            assert (await ann.put("/v1/always-accept/owner")).status_code == 204
        assert (await ann.put("/v1/always-accept/no-such-account")).status_code == 204
        owners = (await ann.get("/v1/always-accept")).json()["owners"]
        assert [(item["owner_account_id"], item["name"]) for item in owners] == [
            ("no-such-account", None), ("owner", None),
        ], "whether there is such an account is not told"  # fmt: skip
        async with world.api("owner") as owner:
            assert (await owner.get("/v1/always-accept")).json() == {"owners": []}, "it is the recipient's"
    assert await world.live() == [("d9", "requested")], "what was open stays open"
    await invite(world, "c1", "d0", to=("ann@x.test", "bob@x.test"))
    assert await world.said("d0") == ["ShareRequested", "ShareAccepted", "ShareRequested"]
    accepted = (await world.events("d0"))[1].data
    assert (accepted.account_id, accepted.automatic) == ("ann", True)
    async with world.api("ann") as ann:
        owners = (await ann.get("/v1/always-accept")).json()["owners"]
        assert ("owner", "Owner") in [(item["owner_account_id"], item["name"]) for item in owners]
    await invite(world, "c2", "foreign", actor="rival")
    assert await world.said("foreign") == ["ShareRequested"], "from this sharer only"
    async with world.api("ann") as ann:
        assert (await ann.delete("/v1/always-accept/owner")).status_code == 204
    await invite(world, "c3", "d1")
    assert await world.said("d1") == ["ShareRequested"]
    assert await pool.fetchval("select state from share where account_id = 'ann'") == "active"


async def test_a_rule_holds_for_addresses_that_are_verified_then(world: Any) -> None:
    async with world.api("ann") as ann:
        await ann.put("/v1/always-accept/owner")
    await invite(world, "c1", "d0", to=("new@x.test",))
    assert await world.said("d0") == ["ShareRequested"]
    both = AccountSnapshot(account_id="ann", name="Ann", verified_emails=("ann@x.test", "new@x.test"))
    await world.directory(both)
    await invite(world, "c2", "d1", to=("new@x.test",))
    assert await world.said("d1") == ["ShareRequested", "ShareAccepted"]


async def test_a_rule_for_oneself_shares_nothing_with_oneself(world: Any) -> None:
    async with world.api("owner") as owner:
        await owner.put("/v1/always-accept/owner")
    with pytest.raises(SelfShare):
        await invite(world, "c1", "d0", to=("owner@x.test",))


async def test_rules_are_bounded(world: Any, pool: pg.Pool) -> None:
    await pool.execute(
        "insert into always_accept select 'o' || number, 'ann', now() from generate_series(1, 1000) as number"
    )
    async with world.api("ann") as ann:
        full = await ann.put("/v1/always-accept/owner")
        assert (full.status_code, full.json()["error"]["code"]) == (422, "LIMIT_REACHED")
        assert (await ann.put("/v1/always-accept/o7")).status_code == 204, "there already"
        assert (await ann.delete("/v1/always-accept/o7")).status_code == 204
        assert (await ann.put("/v1/always-accept/owner")).status_code == 204
    async with world.api("nobody-yet") as unknown:
        assert (await unknown.put("/v1/always-accept/owner")).status_code == 204, "and nothing comes of it"
    assert await pool.fetchval("select count(*) from always_accept") == 1000
