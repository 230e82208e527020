"""The read API over HTTP: who sees what, pages, invitations, and waiting for a position."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from contracts import topics
from contracts.base import new_id
from contracts.events import RevokeReason, ShareRevoked
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from permission_projector.app import build_read_api
from permission_projector.settings import NAME
from permission_projector.store import SCHEMA
from servicekit import pg
from servicekit.auth import InternalCallers

RAVI, SARA = new_id(), new_id()
SSH_ONLY = Terms(scope=SomeServices(services={"ssh": "all"}), scripting=True)


class Api:
    """Asks as an account."""

    def __init__(self, client: httpx.AsyncClient, tokens: Any) -> None:
        self.client, self._tokens = client, tokens

    async def get(
        self, account: str, path: str, *, position: str | None = None, **query: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._tokens.token(NAME, account)}"}
        if position is not None:
            headers["Latchkey-Position"] = position
        if "start" in query:
            query["from"] = query.pop("start")
        return await self.client.get(f"/v1{path}", params=query, headers=headers)

    async def ids(self, account: str, **query: Any) -> list[str]:
        answer = await self.get(account, "/devices", **query)
        assert answer.status_code == 200, answer.text
        return [item["device_id"] for item in answer.json()["items"]]


@pytest.fixture
async def api(world: Any, internal_tokens: Any) -> AsyncGenerator[Api]:
    dsn = world.database.dsn("permission_projector")
    pool = await pg.open_pool(
        dsn, application="t", search_path=SCHEMA, settings={"default_transaction_read_only": "on"}
    )
    app, positions = build_read_api(InternalCallers(internal_tokens.public_jwks, NAME), pool, dsn)
    listening = asyncio.create_task(positions.listen())
    async with (
        pool,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://read-api") as client,
    ):
        yield Api(client, internal_tokens)
    listening.cancel()


@pytest.fixture
async def people(world: Any) -> None:
    """olga owns two devices; ravi has a service of one; sara is invited to it; mallory is nobody."""
    await world.apply(
        world.account("olga", "Olga@Example.com", "olga@second.example"),
        world.account("ravi"),
        world.account("sara"),
        world.account("mallory"),
        world.device("cam-1", services={"ssh": [Permission.CONNECT], "web": [Permission.PTZ]}),
        world.device("pc-2", name="Zweites Büro_1", created_at=datetime(2026, 1, 2, tzinfo=UTC)),
        world.device("mal-9", owner="mallory", name="Mallory's"),
        world.contact(RAVI, "mailto:ravi@example.com"),
        world.contact(SARA, "mailto:sara@example.com"),
        *world.shared("ravi", terms=SSH_ONLY, contact_id=RAVI),
        *world.shared(None, first_version=3, contact_id=SARA),
    )


async def test_me(api: Api, people: None) -> None:
    answer = await api.get("olga", "/me")
    assert answer.json() == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}
    unknown = await api.get("nobody-yet", "/me")
    assert unknown.json() == {"account_id": "nobody-yet", "name": None, "email": None}


async def test_an_owner_sees_his_device_whole_and_everybody_on_it(api: Api, people: None) -> None:
    answer = await api.get("olga", "/devices/cam-1")
    assert answer.headers["Latchkey-Position"] == "cam-1@3"
    device = answer.json()
    assert device["owner"] == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}
    assert (device["owned"], device["share_state"], device["scripting"]) == (True, "out", True)
    assert {item["service_id"]: item["permissions"] for item in device["services"]} == {
        "ssh": ["connect"], "web": ["ptz"],
    }  # fmt: skip
    assert [(item["email"], item["state"], item["account_id"]) for item in device["access"]] == [
        ("ravi@example.com", "active", "ravi"),
        ("sara@example.com", "requested", None),
    ]
    assert device["access"][0]["terms"] == json.loads(SSH_ONLY.model_dump_json())
    assert (await api.get("olga", "/devices/pc-2")).json()["share_state"] == "none"


async def test_a_recipient_sees_what_was_shared_with_him_and_of_the_others_nothing(
    world: Any, api: Api, people: None
) -> None:
    await world.apply(*world.shared("tara", first_version=4))
    device = (await api.get("ravi", "/devices/cam-1")).json()
    assert (device["owned"], device["share_state"], device["scripting"]) == (False, "in", True)
    assert [(item["service_id"], item["permissions"]) for item in device["services"]] == [
        ("ssh", ["connect", "scripting"])
    ]
    assert [item["email"] for item in device["access"]] == ["ravi@example.com"]
    assert "sara" not in json.dumps(device)
    assert "tara" not in json.dumps(device)


async def test_several_shares_with_one_account_show_their_union(world: Any, api: Api, people: None) -> None:
    terms = Terms(scope=SomeServices(services={"web": "all"}))
    await world.apply(*world.shared("ravi", terms=terms, first_version=4, contact_id=new_id()))
    device = (await api.get("ravi", "/devices/cam-1")).json()
    assert [(item["service_id"], item["permissions"]) for item in device["services"]] == [
        ("ssh", ["connect", "scripting"]), ("web", ["ptz"]),
    ]  # fmt: skip
    assert len(device["access"]) == 2


@pytest.mark.parametrize("account", ["mallory", "sara", "nobody-yet"])
async def test_a_stranger_learns_nothing(api: Api, people: None, account: str) -> None:
    assert await api.ids(account) == (["mal-9"] if account == "mallory" else [])
    assert await api.ids(account, id=["cam-1", "pc-2"]) == []
    foreign = await api.get(account, "/devices/cam-1")
    missing = await api.get(account, "/devices/cam-7")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["error"]["code"] == "DEVICE_NOT_FOUND"
    assert foreign.text.replace("cam-1", "cam-7") == missing.text
    if account != "sara":
        assert (await api.get(account, "/invitations")).json() == {"items": []}


async def test_a_stranger_cannot_feel_out_a_device_by_its_position(api: Api, people: None) -> None:
    foreign = await api.get("mallory", "/me", position="cam-1@1", wait=0)
    missing = await api.get("mallory", "/me", position="cam-7@1", wait=0)
    assert foreign.status_code == missing.status_code == 503
    assert foreign.text.replace("cam-1", "cam-7") == missing.text
    assert (await api.get("sara", "/me", position="cam-1@3", wait=0)).status_code == 200


async def test_an_end_takes_the_device_from_the_list(world: Any, api: Api, people: None) -> None:
    assert await api.ids("ravi") == ["cam-1"]
    share = (await api.get("ravi", "/devices/cam-1")).json()["access"][0]["share_id"]
    revoked = ShareRevoked(
        share_id=share, device_id="cam-1", contact_id=RAVI, owner_account_id="olga",
        reason=RevokeReason.BY_OWNER,
    )  # fmt: skip
    await world.apply(world.event(revoked, 4))
    assert await api.ids("ravi") == []
    device = (await api.get("olga", "/devices/cam-1")).json()
    assert [item["email"] for item in device["access"]] == ["sara@example.com"]


async def test_a_quarantined_device_is_shown_to_its_owner_only(world: Any, api: Api, people: None) -> None:
    await world.apply(world.raw(topics.SHARE_EVENTS, b"cam-1", b"{}"))
    assert await api.ids("ravi") == []
    assert (await api.get("sara", "/invitations")).json() == {"items": []}
    assert "cam-1" in await api.ids("olga")


async def test_invitations_are_for_the_account_that_has_verified_the_address(
    world: Any, api: Api, people: None
) -> None:
    answer = await api.get("sara", "/invitations")
    assert answer.headers["Latchkey-Position"] == "cam-1@3"
    (item,) = answer.json()["items"]
    assert (item["device_id"], item["device_name"], item["invitation_version"]) == ("cam-1", "Camera", 3)
    assert item["owner"] == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}
    assert item["terms"] == json.loads(Terms(scope=AllServices()).model_dump_json())
    assert item["service_names"] == {}
    assert (await api.get("ravi", "/invitations")).json() == {"items": []}
    await world.apply(world.account("sara", "new@example.com"))
    assert (await api.get("sara", "/invitations")).json() == {"items": []}
    await world.apply(world.account("mallory", "Sara@Example.com"))
    assert len((await api.get("mallory", "/invitations")).json()["items"]) == 1


async def test_an_invitation_to_some_services_names_those_only(world: Any, api: Api, people: None) -> None:
    dora = new_id()
    await world.apply(
        world.account("dora"),
        world.contact(dora, "mailto:dora@example.com"),
        *world.shared(None, terms=SSH_ONLY, first_version=4, contact_id=dora),
    )
    (item,) = (await api.get("dora", "/invitations")).json()["items"]
    assert item["service_names"] == {"ssh": "SSH"}


async def test_the_list_is_filtered_sorted_and_cut_into_pages(api: Api, people: None) -> None:
    assert await api.ids("olga", sort="created") == ["cam-1", "pc-2"]
    assert await api.ids("olga", sort="-created") == ["pc-2", "cam-1"]
    assert await api.ids("olga") == ["cam-1", "pc-2"]
    assert await api.ids("olga", sort="-name") == ["pc-2", "cam-1"]
    assert await api.ids("olga", name="BÜRO_") == ["pc-2"]
    assert await api.ids("olga", name="%") == []
    assert await api.ids("olga", owner=False) == []
    assert await api.ids("ravi", owner=True) == []
    assert await api.ids("ravi", owner=False) == ["cam-1"]
    assert await api.ids("olga", id=["pc-2", "mal-9"]) == ["pc-2"]
    page = (await api.get("olga", "/devices", size=1, sort="created")).json()
    assert (page["total"], page["hasMore"], len(page["items"])) == (2, True, 1)
    page = (await api.get("olga", "/devices", start=1, size=1, sort="created")).json()
    assert (page["total"], page["hasMore"], page["items"][0]["device_id"]) == (2, False, "pc-2")
    assert (await api.get("olga", "/devices", start=9)).json()["total"] == 2


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/devices", {"size": 1001}, 422, "INVALID_REQUEST"),
        ("/devices", {"size": 0}, 422, "INVALID_REQUEST"),
        ("/devices", {"start": -1}, 422, "INVALID_REQUEST"),
        ("/devices", {"sort": "secret"}, 422, "INVALID_REQUEST"),
        ("/devices", {"name": "a\0b"}, 422, "INVALID_REQUEST"),
        ("/devices", {"id": "a\0b"}, 422, "INVALID_REQUEST"),
        ("/devices", {"wait": "nan"}, 422, "INVALID_REQUEST"),
        ("/devices", {"wait": 11}, 422, "INVALID_REQUEST"),
        ("/devices/a%00b", {}, 404, "DEVICE_NOT_FOUND"),
        ("/devices", {"after": "cam-1"}, 400, "INVALID_POSITION"),
        ("/devices", {"after": "cam-1@-1"}, 400, "INVALID_POSITION"),
        ("/devices", {"after": "cam-1@9999999999999999999"}, 400, "INVALID_POSITION"),
        ("/devices", {"after": ",".join(["cam-1@1"] * 101)}, 400, "INVALID_POSITION"),
        ("/nothing", {}, 404, "NOT_FOUND"),
    ],
)
async def test_bad_input_gets_a_coded_error(
    api: Api, path: str, query: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.get("olga", path, **query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_nobody_is_served_without_a_token_for_this_service(api: Api, internal_tokens: Any) -> None:
    for headers in ({}, {"Authorization": f"Bearer {internal_tokens.token('share-command', 'olga')}"}):
        answer = await api.client.get("/v1/devices", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")


async def test_a_reader_waits_until_its_own_write_is_there(world: Any, api: Api, people: None) -> None:
    """Read your own writes: the answer comes after the event, never from before it."""
    asking = asyncio.create_task(api.get("olga", "/devices/pc-2", position="pc-2@2", wait=10))
    first, second = world.shared("ravi", device_id="pc-2")
    await world.apply(first)
    assert not asking.done()
    await world.apply(second)
    answer = await asking
    assert answer.headers["Latchkey-Position"] == "pc-2@2"
    assert [item["state"] for item in answer.json()["access"]] == ["active"]


async def test_a_position_that_does_not_come_is_answered_with_how_far_it_is(api: Api, people: None) -> None:
    answer = await api.get("olga", "/devices", position="cam-1@3, cam-1@9, pc-2@0", wait=0.1)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "NOT_YET_VISIBLE"
    assert answer.json()["error"]["known"] == "cam-1@3"
    assert answer.headers["Retry-After"] == "1"


async def test_the_reader_can_write_nothing(world: Any) -> None:
    pool = await pg.open_pool(
        world.database.dsn("permission_projector"),
        application="t",
        search_path=SCHEMA,
        settings={"default_transaction_read_only": "on"},
    )
    async with pool:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await pool.execute("delete from share")
