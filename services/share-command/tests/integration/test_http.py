"""What the HTTP API answers: a status for each code, limits, and input that is on the edge."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from contracts.commands import RequestShare
from servicekit import pg
from share_command import documents

COMMAND: dict[str, Any] = {"command_id": "x", "device_ids": ["d0"], "recipients": ["ann@x.test"]}
EARLY, LATE = "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"


async def request(world: Any, command_id: str, *devices: str, **more: Any) -> None:
    fields = {"device_ids": devices or ("d0",), "recipients": ("ann@x.test",), **more}
    await world.handle(RequestShare, command_id, "owner", **fields)


REFUSED: list[tuple[str, Mapping[str, Any], int, str]] = [
    ("RequestShare", COMMAND | {"device_ids": ["gone"]}, 404, "DEVICE_NOT_FOUND"),
    ("RequestShare", COMMAND | {"services": [{"service_id": "s"}]}, 422, "SERVICE_NOT_ON_DEVICE"),
    ("RequestShare", COMMAND | {"recipients": ["no"]}, 422, "INVALID_EMAIL"),
    ("RequestShare", COMMAND | {"recipients": ["0151 123456"]}, 422, "INVALID_PHONE"),
    ("RequestShare", COMMAND | {"recipients": ["contact:1"]}, 404, "CONTACT_NOT_FOUND"),
    ("RequestShare", COMMAND | {"recipients": ["owner@x.test"]}, 422, "SELF_SHARE"),
    ("RequestShare", COMMAND | {"ends_at": "2020-01-01T00:00:00Z"}, 422, "INVALID_PERIOD"),
    ("RequestShare", COMMAND | {"ends_at": "2027-01-01T00:00:00"}, 422, "INVALID_REQUEST"),
    ("RequestShare", COMMAND | {"ends": "2027-01-01T00:00:00Z"}, 422, "INVALID_REQUEST"),
    ("RequestShare", COMMAND | {"message": "x" * 501}, 422, "INVALID_REQUEST"),
    ("RequestShare", COMMAND | {"message": "turned\u202earound"}, 422, "INVALID_REQUEST"),
    ("RequestShare", COMMAND | {"recipients": [f"p{n}@x.test" for n in range(1001)]}, 422, "INVALID_REQUEST"),
    ("RequestShare", COMMAND | {"command_id": "taken"}, 409, "IDEMPOTENCY_CONFLICT"),
    (
        "RequestShare",
        COMMAND | {"device_ids": ["d0", "d1"], "recipients": [f"p{n}@x.test" for n in range(501)]},
        422,
        "LIMIT_REACHED",
    ),
    (
        "LeaveShare",
        {"command_id": "x", "device_ids": ["d0"], "recipients": ["eve@x.test"]},
        403,
        "NOT_A_RECIPIENT",
    ),
    ("RemoveRecipient", {"command_id": "x", "recipient": "no"}, 422, "INVALID_EMAIL"),
]


@pytest.mark.parametrize(("name", "body", "status", "code"), REFUSED)
async def test_each_refusal_has_its_status(
    world: Any, name: str, body: Mapping[str, Any], status: int, code: str
) -> None:
    await request(world, "taken", "d9")
    before = await world.dump()
    async with world.api("owner") as owner:
        answer = await owner.post(f"/v1/commands/{name}", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    after = await world.dump()
    del before["command"], after["command"]
    assert after == before


async def test_a_conflict_tells_what_is_so_now(world: Any, pool: pg.Pool) -> None:
    await request(world, "c1")
    share_id = str(await pool.fetchval("select share_id from share"))
    body = {"command_id": "x", "device_id": "d0", "share_id": share_id, "expected_version": 7,
            "terms": {"scope": {"kind": "all"}}}  # fmt: skip
    async with world.api("owner") as owner:
        answer = await owner.post("/v1/commands/ChangeShare", json=body)
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["code"], error["state"], error["version"], error["invitation_version"]) == (
        "CONFLICT", "requested", 1, 1,
    )  # fmt: skip
    assert error["terms"]["scope"] == {"kind": "all", "permissions": "all"}


async def test_sending_an_invitation_again_too_early(world: Any, pool: pg.Pool) -> None:
    await request(world, "c1")
    share_id = str(await pool.fetchval("select share_id from share"))
    world.later(seconds=20)
    async with world.api("owner") as owner:
        answer = await owner.post(
            "/v1/commands/ResendInvitation", json={"command_id": "x", "device_id": "d0", "share_id": share_id}
        )
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "40")
    assert answer.json()["error"]["retry_after_seconds"] == 40


@pytest.mark.usefixtures("early_in_a_minute")
async def test_an_account_that_asks_too_often_waits(world: Any) -> None:
    async with world.api("owner", commands_per_minute=3) as owner:
        for number in range(3):
            answer = await owner.post(
                "/v1/commands/RequestShare", json=COMMAND | {"command_id": f"c{number}"}
            )
            assert answer.status_code == 200
        before = await world.dump()
        for path, body in (
            ("/v1/commands/RequestShare", COMMAND | {"scripting": True}),
            ("/v1/explanations/RequestShare", COMMAND),
            ("/v1/contacts", {"recipient": "new@x.test"}),
            ("/v1/bulk-shares", {"operation_id": "o", "device_ids": ["d1"], "recipients": ["ann@x.test"]}),
        ):
            answer = await owner.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "RATE_LIMITED")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert answer.json()["error"]["retry_after_seconds"] == int(answer.headers["retry-after"])
        assert await world.dump() == before, "no effect"
        assert (await owner.get("/v1/contacts")).status_code == 200, "looking is not counted"


@pytest.mark.usefixtures("early_in_a_minute")
async def test_the_limit_is_each_accounts_own_and_a_bulk_counts_its_devices(world: Any) -> None:
    bulk = {"operation_id": "o", "device_ids": ["d1", "d2", "d3"], "recipients": ["ann@x.test"]}
    async with world.api("owner", commands_per_minute=4) as owner:
        assert (await owner.post("/v1/bulk-shares", json=bulk)).status_code == 200
        assert (await owner.post("/v1/commands/RequestShare", json=COMMAND)).status_code == 200
        assert (await owner.post("/v1/bulk-shares", json=bulk)).status_code == 429
        rival = {"Authorization": f"Bearer {world.token('rival')}"}
        answer = await owner.post(
            "/v1/commands/RequestShare",
            json=COMMAND | {"command_id": "r", "device_ids": ["foreign"]},
            headers=rival,
        )
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"starts_at": EARLY},
        {"starts_at": LATE},
        {"ends_at": LATE},
        {"expires_at": LATE},
        {"starts_at": EARLY, "ends_at": LATE, "expires_at": LATE},
        {"ends_at": EARLY},
        {"expires_at": EARLY},
    ],
)
async def test_times_at_the_edge_of_what_there_is(world: Any, fields: dict[str, str]) -> None:
    async with world.api("owner") as owner:
        for path in ("/v1/explanations/RequestShare", "/v1/commands/RequestShare"):
            answer = await owner.post(path, json=COMMAND | fields)
            assert answer.status_code in (200, 422), answer.text
        assert (await owner.get("/v1/shares", params={"device_id": "d0"})).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{", b'"x"', b'{"command_id": 1}', b"\xff\xfe", b'{"\\ud800": 1}',
        b'{"command_id": "\\ud800", "device_ids": ["d0"], "recipients": ["ann@x.test"]}',
        b'{"command_id": "x", "device_ids": ["d0"], "recipients": ["\\ud800@x.test"]}',
        b'{"command_id": "x", "device_ids": ["d0"], "recipients": ["a\\u0000@x.test"]}',
        b'{"command_id": "x", "device_ids": ["d0"], "recipients": ["a@x.test"], "message": "\\u0000"}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"command_id": "x", "device_ids": ["d0"], "recipients": ["a@x.test"], "services": 1e999}',
    ],
)  # fmt: skip
async def test_bodies_that_cannot_be_used(world: Any, content: bytes) -> None:
    async with world.api("owner") as owner:
        for path in ("/v1/commands/RequestShare", "/v1/contacts", "/v1/bulk-shares", "/v1/messages"):
            answer = await owner.post(path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 422), answer.text
            assert answer.json()["error"]["code"]


async def test_what_is_searched_for_is_text(world: Any) -> None:
    async with world.api("owner") as owner:
        for text in ("%00", "%ED%A0%80", "%FF", "%25", "%5C", "%27"):
            answer = await owner.get(f"/v1/contacts?containing={text}")
            assert answer.status_code in (200, 422), answer.text
        for wrong in ("size=0", "size=10001", "size=x", f"containing={'x' * 321}"):
            assert (await owner.get(f"/v1/contacts?{wrong}")).status_code == 422


async def test_what_a_process_says_of_itself_is_what_is_published(world: Any) -> None:
    async with world.api("owner") as owner:
        assert (await owner.get("/openapi.json")).json() == json.loads(documents.openapi())


async def test_nothing_is_answered_without_a_token(world: Any) -> None:
    async with world.api("owner") as owner:
        app = (await owner.get("/openapi.json")).json()
        for path, methods in app["paths"].items():
            for method in methods:
                answer = await owner.request(method, path, headers={"Authorization": "Bearer x"}, json={})
                assert answer.status_code in (401, 422), (path, answer.text)


async def test_shares_of_a_device_are_its_owners_to_look_at(world: Any) -> None:
    await request(world, "c1", message="For you", scripting=True)
    await world.accept("d0")
    async with world.api("owner") as owner:
        (entry,) = (await owner.get("/v1/shares", params={"device_id": "d0"})).json()["shares"]
        await owner.put(f"/v1/contacts/{entry['contact_id']}/remark", json={"remark": "mine"})
        (entry,) = (await owner.get("/v1/shares", params={"device_id": "d0"})).json()["shares"]
    assert (entry["state"], entry["version"], entry["address"], entry["message"], entry["remark"]) == (
        "active", 2, "ann@x.test", "For you", "mine",
    )  # fmt: skip
    for other in ("ann", "rival", "eve"):
        async with world.api(other) as client:
            assert (await client.get("/v1/shares", params={"device_id": "d0"})).json() == {"shares": []}
    await world.directory(world.device("d0", "ssh", owner="rival"))
    for account in ("owner", "rival"):
        async with world.api(account) as client:
            assert (await client.get("/v1/shares", params={"device_id": "d0"})).json() == {"shares": []}


async def test_the_owners_words_are_for_him_and_the_recipient(world: Any, pool: pg.Pool) -> None:
    await request(world, "c1", message="For Ann")
    await request(world, "c2", recipients=("bob@x.test",), message="For Bob")
    rows = await pool.fetch("select share_id::text from share")
    ids = [row["share_id"] for row in rows]

    async def told(account: str) -> list[str]:
        async with world.api(account) as client:
            answer = await client.post("/v1/messages", json={"share_ids": ids})
            return sorted(answer.json()["messages"].values())

    assert await told("owner") == ["For Ann", "For Bob"]
    assert (await told("ann"), await told("bob"), await told("eve")) == (["For Ann"], ["For Bob"], [])
    await world.accept("d0")
    await pool.execute("insert into account_address values ('eve', 'mailto:ann@x.test')")
    assert await told("eve") == [], "an accepted share is the account's, whoever verifies the address later"
    await pool.execute("delete from account_address where account_id = 'ann'")
    assert await told("ann") == ["For Ann"]
    await request(world, "c3", message="")
    assert await told("ann") == []
    await request(world, "c4", recipients=("bob@x.test",), scripting=True)
    assert await told("bob") == ["For Bob"], "not named, it stays"
    assert "For" not in str(await pool.fetch("select envelope from event"))
    assert b"For" not in b"".join([row["value"] for row in await pool.fetch("select value from outbox")])
    await world.directory(("device", "d0"))
    assert (await told("owner"), await told("bob")) == ([], [])


async def test_positions_of_very_many_devices_are_in_the_body_and_so_many_in_the_header(world: Any) -> None:
    """Heads of answers are bounded by whoever reads them: by proxies at 16 KiB."""
    devices = [f"m{number:03}-{'x' * 50}" for number in range(150)]
    await world.directory(*(world.device(name, "ssh") for name in devices))
    body = COMMAND | {"device_ids": devices}
    async with world.api("owner") as owner:
        command = await owner.post("/v1/commands/RequestShare", json=body)
        bulk = await owner.post(
            "/v1/bulk-shares",
            json={
                "operation_id": "b", "device_ids": devices, "recipients": ["bob@x.test"]
            },
        )  # fmt: skip
    for answer in (command, bulk):
        positions = answer.json()["positions"]
        assert (answer.status_code, len(positions)) == (200, 150), answer.text
        assert answer.headers["Latchkey-Position"].split(", ") == positions[-100:]


async def test_the_words_of_a_former_owner_are_not_the_new_ones(world: Any, pool: pg.Pool) -> None:
    await request(world, "c1", message="Of the former owner")
    await pool.execute("update device set owner_account_id = 'rival' where device_id = 'd0'")
    await world.handle(RequestShare, "c2", "rival", device_ids=("d0",), recipients=("ann@x.test",))
    assert await pool.fetchval("select message from share") is None
