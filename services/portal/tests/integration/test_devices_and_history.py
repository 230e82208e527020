"""Names of devices, shares and connections of the past, in GraphQL and as CSV."""

import csv
import io
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

SignIn = Callable[..., Awaitable[httpx.Response]]
Graphql = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

RENAME = 'mutation($name: String!) { renameDevice(deviceId: "cam-1", name: $name) }'
ALIAS = 'mutation($alias: String!) { setDeviceAlias(deviceId: "cam-1", alias: $alias) }'
ASK_REGISTRY = "PATCH registry/devices/cam-1"
DEVICE = "GET read-api/v1/devices/cam-1"
HISTORY = "GET read-api/v1/devices/cam-1/history"
EVENT: dict[str, Any] = {
    "version": 2,
    "kind": "ShareRequested",
    "at": "2026-02-02T00:00:00Z",
    "share_id": "0199a000-0000-7000-8000-000000000001",
    "account": None,
    "email": "bob@example.com",
    "phone": None,
    "state": "requested",
    "terms": {"scope": {"kind": "all", "permissions": ["connect"]}, "scripting": False},
    "reason": None,
}


def code(answer: httpx.Response) -> str:
    """Of the one refusal."""
    (error,) = answer.json()["errors"]
    return error["extensions"]["code"]


async def test_the_owner_renames_at_the_registry(graphql: Graphql, replies: Replies, asked: Asked) -> None:
    replies[ASK_REGISTRY] = (200, {})
    answer = await graphql(RENAME, {"name": "  Front \n gate "})
    assert answer.json() == {"data": {"renameDevice": True}}
    assert asked[-1]["call"] == ASK_REGISTRY
    assert asked[-1]["account"] == "portal"
    assert asked[-1]["body"] == {"name": "Front gate", "owner_account_id": "ann"}


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\x00b", "a\x07b"])
async def test_a_name_that_is_none_is_refused(graphql: Graphql, asked: Asked, name: str) -> None:
    answer = await graphql(RENAME, {"name": name})
    assert answer.json()["data"] == {"renameDevice": False}
    assert code(answer) == "INVALID_REQUEST"
    assert not [item for item in asked if "registry" in item["call"]]


async def test_who_does_not_own_it_does_not_rename_it(
    graphql: Graphql, replies: Replies, asked: Asked
) -> None:
    replies[DEVICE] = (200, {**replies[DEVICE][1], "owned": False, "share_state": "in"})
    assert code(await graphql(RENAME, {"name": "Mine"})) == "FORBIDDEN"
    del replies[DEVICE]
    assert code(await graphql(RENAME, {"name": "Mine"})) == "DEVICE_NOT_FOUND"
    assert not [item for item in asked if "registry" in item["call"]]


@pytest.mark.parametrize(
    ("status", "told"), [(404, "DEVICE_NOT_FOUND"), (403, "UNAVAILABLE"), (503, "UNAVAILABLE")]
)
async def test_a_registry_that_refuses_is_told_of(
    graphql: Graphql, replies: Replies, status: int, told: str
) -> None:
    replies[ASK_REGISTRY] = (status, {})
    assert code(await graphql(RENAME, {"name": "Gate"})) == told


async def test_an_alias_is_the_recipients_own(graphql: Graphql, replies: Replies) -> None:
    named = '{ login { device(id: ["cam-1"]) { name alias } } }'
    assert (await graphql(ALIAS, {"alias": "x"})).json()["data"] == {"setDeviceAlias": True}
    own = (await graphql(named)).json()["data"]["login"]["device"]
    assert own == [{"name": "Front door", "alias": None}], "the owner has the name itself"
    replies[DEVICE] = (200, {**replies[DEVICE][1], "owned": False, "share_state": "in"})
    for alias in ("Holiday house", "The other"):
        await graphql(ALIAS, {"alias": alias})
        (device,) = (await graphql(named)).json()["data"]["login"]["device"]
        assert device == {"name": "Front door", "alias": alias}
    await graphql(ALIAS, {"alias": " "})
    (device,) = (await graphql(named)).json()["data"]["login"]["device"]
    assert device["alias"] is None


async def test_an_alias_is_refused_for_what_one_does_not_see_or_cannot_read(
    graphql: Graphql, replies: Replies
) -> None:
    assert code(await graphql(ALIAS, {"alias": "x" * 121})) == "INVALID_REQUEST"
    del replies[DEVICE]
    assert code(await graphql(ALIAS, {"alias": "x"})) == "DEVICE_NOT_FOUND"


async def test_shares_that_were_given(graphql: Graphql, replies: Replies, asked: Asked) -> None:
    share = {
        "share_id": EVENT["share_id"],
        "device_id": "cam-1",
        "device_name": None,
        "given": True,
        "state": "active",
        "owner": {"account_id": "ann", "name": "Ann"},
        "account": {"account_id": "bob", "name": "Bob"},
        "email": "bob@example.com",
        "phone": None,
        "terms": EVENT["terms"],
        "requested_at": EVENT["at"],
        "since": EVENT["at"],
        "expires_at": None,
        "version": 3,
    }
    replies["GET read-api/v1/history"] = (200, {"items": [share], "next": "more"})
    answer = await graphql(
        '{ login { pastShares(given: true, size: 5, after: "here") { next items {'
        " id deviceId deviceName given state owner { name } recipient { id name email } email version"
        " terms { services { serviceId } permissions } } } } }",
        headers={"Latchkey-Position": "cam-1@3"},
    )
    page = answer.json()["data"]["login"]["pastShares"]
    assert page["next"] == "more"
    assert page["items"] == [
        {
            "id": EVENT["share_id"],
            "deviceId": "cam-1",
            "deviceName": None,
            "given": True,
            "state": "active",
            "owner": {"name": "Ann"},
            "recipient": {"id": "bob", "name": "Bob", "email": "bob@example.com"},
            "email": "bob@example.com",
            "version": 3,
            "terms": {"services": None, "permissions": ["CONNECT"]},
        }
    ]
    assert dict(asked[-1]["params"]) == {"size": "5", "cursor": "here", "given": "true"}
    assert asked[-1]["headers"]["latchkey-position"] == "cam-1@3"


async def test_connections_of_all_devices_and_of_one(
    graphql: Graphql, replies: Replies, asked: Asked
) -> None:
    record = {
        "connection_id": EVENT["share_id"],
        "device_id": "cam-1",
        "service_id": "cam-1:ssh",
        "account": {"account_id": "bob", "name": "Bob"},
        "permission": "connect",
        "opened_at": EVENT["at"],
        "outcome": "open",
    }
    replies["GET read-api/v1/connections"] = (200, {"items": [record]})
    replies["GET read-api/v1/devices/cam-1/connections"] = (200, {"items": []})
    fields = "items { deviceId serviceId user { id name } outcome opened ended }"
    answer = await graphql(f"{{ login {{ connections(open: true) {{ {fields} }} }} }}")
    (item,) = answer.json()["data"]["login"]["connections"]["items"]
    assert (item["user"], item["outcome"]) == ({"id": "bob", "name": "Bob"}, "open")
    assert dict(asked[-1]["params"])["open"] == "true"
    answer = await graphql(f'{{ login {{ connections(deviceId: "cam-1") {{ {fields} }} }} }}')
    assert answer.json()["data"]["login"]["connections"]["items"] == []
    both = await graphql('{ login { connections(deviceId: "cam-1", open: true) { next } } }')
    assert code(both) == "INVALID_REQUEST"


@pytest.mark.parametrize("size", [0, 201, -1])
async def test_pages_of_the_past_have_a_size_that_can_be(graphql: Graphql, size: int) -> None:
    assert code(await graphql(f"{{ login {{ pastShares(size: {size}) {{ next }} }} }}")) == "INVALID_REQUEST"


async def test_the_history_as_a_table_is_whole_and_runs_nothing(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies
) -> None:
    assert (await client.get("/history/v1/cam-1.csv")).status_code == 401
    await sign_in("ann")
    assert (await client.get("/history/v1/cam-1.csv")).status_code == 404
    hostile = {**EVENT, "account": {"account_id": "eve", "name": '=HYPERLINK("http://x")'}, "terms": None}
    by_phone = {**EVENT, "email": None, "phone": "+4915112345678", "reason": "device_removed"}
    replies[HISTORY] = (200, {"items": [EVENT, hostile, by_phone], "next": None})
    answer = await client.get("/history/v1/cam-1.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["address"] for row in rows] == ["bob@example.com", "bob@example.com", "+4915112345678"]
    assert rows[0]["terms"] == "Every service of this device, and those added later: connect"
    assert rows[1]["name"] == '\'=HYPERLINK("http://x")'
    assert rows[2]["reason"] == "device_removed"


async def test_the_device_tells_its_kind_whether_it_is_online_and_with_whom_it_is_shared(
    graphql: Graphql, replies: Replies
) -> None:
    _, device = replies[DEVICE]
    told = {**device, "online": True, "last_seen": EVENT["at"], "access_total": 30, "invited_total": 11}
    replies[DEVICE] = (200, told)
    answer = await graphql(
        '{ login { device(id: ["cam-1"]) { kind owned online lastReported owner { name }'
        " sharedWith { accepted invited first } services { online } } } }"
    )
    assert answer.json()["data"]["login"]["device"] == [
        {
            "kind": "camera",
            "owned": True,
            "online": True,
            "lastReported": "2026-02-02T00:00:00+00:00",
            "owner": {"name": "Ann"},
            "sharedWith": {
                "accepted": 19,
                "invited": 11,
                "first": ["bob@example.com", "carol@example.com"],
            },
            "services": [{"online": True}, {"online": True}],
        }
    ]


async def test_a_player_gets_an_address_with_a_password_of_its_own(
    graphql: Graphql, replies: Replies
) -> None:
    given = {
        "urls": ["rtsps://gate.example.com:8322/cam-1:rtsp", "rtsp://[::1]:8554/cam-1:rtsp"],
        "web_urls": ["wss://gate.example.com:8443/v1/rtsp"],
        "password": "twenty-two-characters.",
        "ends_at": "2026-02-02T01:00:00Z",
    }
    replies["POST gateway/v1/stream-passwords"] = (201, given)
    answer = await graphql('mutation { openStream(serviceId: "cam-1:rtsp") { urls webUrls expires } }')
    assert answer.json()["data"]["openStream"]["urls"] == [
        "rtsps://latchkey:twenty-two-characters.@gate.example.com:8322/cam-1:rtsp",
        "rtsp://latchkey:twenty-two-characters.@[::1]:8554/cam-1:rtsp",
    ]
    assert answer.json()["data"]["openStream"]["webUrls"] == [
        "wss://latchkey:twenty-two-characters.@gate.example.com:8443/v1/rtsp"
    ]
    replies["POST gateway/v1/stream-passwords"] = (503, {"error": {"code": "UNAVAILABLE", "message": "No."}})
    refused = await graphql('mutation { openStream(serviceId: "cam-1:rtsp") { urls } }')
    assert code(refused) == "UNAVAILABLE"
