"""Documents that clients of remote.it send run unchanged, signed as those clients sign.

Each file of `documents/` is one document; the JSON file beside it says where it comes from, who sends it,
with which variables (each set is a run of its own; null: none are sent), and the answer if there is but one.
The names of fields, arguments and variables and their types are those of the clients; the layout is ours.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import get_introspection_query

from devstack import seed
from devstack.client import Account, RefusedError
from devstack.world import World, until

DOCUMENTS = Path(__file__).parent / "documents"
DEVICE, SERVICE = "80:00:00:00:12:34:56:78", "80:00:00:00:12:34:56:79"
LEAVER = "YourEmail@example.com"
DONE = b'{"data":{"share":true}}'
CONNECTION = "id created host port reverseProxy timeout"
DISCONNECT = "mutation($connection: String!) { disconnect(connectionId: $connection) }"

Send = Callable[[str, bytes], tuple[int, bytes]]
Body = Callable[[str, dict[str, Any] | None], bytes]


def runs(prefix: str = "") -> Iterator[Any]:
    """Every document whose name begins so, with each set of its variables."""
    for file in sorted(DOCUMENTS.glob(f"{prefix}*.graphql")):
        about: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())
        for number, variables in enumerate(about["variables"], 1):
            yield pytest.param(file.read_text(), variables, about, id=f"{file.stem}-{number}")


def test_the_corpus_is_whole() -> None:
    names = {file.stem for file in DOCUMENTS.glob("*.graphql")}
    assert names == {file.stem for file in DOCUMENTS.glob("*.json")}
    assert len(names) > 20


@pytest.mark.parametrize(
    ("document", "variables", "about"),
    [run for run in runs() if not str(run.id).startswith("leave")],
)
async def test_the_document_runs(
    send: Send, body: Body, document: str, variables: dict[str, Any] | None, about: dict[str, Any]
) -> None:
    status, answer = send(about["as"], body(document, variables))
    assert status == 200, answer
    if "answer" in about:
        assert answer == about["answer"].encode()
    else:
        parsed = json.loads(answer)
        assert "errors" not in parsed
        assert parsed["data"]["login"] is not None


async def open_and_close(account: Account) -> None:
    """Connect, and give the port back."""
    connection = (await account.connect(SERVICE))["id"]
    await account.ask(DISCONNECT, connection=connection)


@pytest.mark.parametrize(("document", "variables", "about"), list(runs("leave")))
async def test_a_recipient_gives_it_back(  # noqa: PLR0917 - fixtures
    shared: Account,
    send: Send,
    body: Body,
    document: str,
    variables: dict[str, Any] | None,
    about: dict[str, Any],
) -> None:
    await open_and_close(shared)
    assert send(about["as"], body(document, variables)) == (200, DONE)

    async def refused() -> bool:
        try:
            await open_and_close(shared)
        except RefusedError as error:
            return error.code == "ACCESS_DENIED"
        return False

    await until(refused)


async def test_what_was_shared_is_seen_by_both(shared: Account, send: Send, body: Body) -> None:
    del shared
    document = (DOCUMENTS / "device-desktop.graphql").read_text()
    seen: dict[str, Any] = {}
    for who in ("owner", "recipient"):
        _, answer = send(who, body(document, {"id": DEVICE}))
        (seen[who],) = json.loads(answer)["data"]["login"]["device"]
    assert seen["owner"]["permissions"] == ["VIEW", "CONNECT", "SCRIPTING", "MANAGE", "ADMIN"]
    assert seen["recipient"]["permissions"][:2] == ["VIEW", "CONNECT"]
    assert seen["recipient"]["owner"]["email"] == seed.OWNER_EMAIL
    assert "bob" in {entry["user"]["id"] for entry in seen["owner"]["access"]}
    guests = (DOCUMENTS / "guests-desktop.graphql").read_text()
    _, answer = send("owner", body(guests, None))
    found = {guest["user"]["id"]: guest for guest in json.loads(answer)["data"]["login"]["account"]["guest"]}
    assert DEVICE in {device["id"] for device in found["bob"]["devices"]}


def whole_device(send: Send, body: Body, who: str) -> dict[str, Any]:
    """The shared device as the largest query of a published client tells it."""
    document = (DOCUMENTS / "devices-rust.graphql").read_text()
    variables = {"orgId": None, "limit": 1000, "offset": None, "state": None}
    status, answer = send(who, body(document, variables))
    assert status == 200
    parsed = json.loads(answer)
    assert "errors" not in parsed
    devices = {device["id"]: device for device in parsed["data"]["login"]["account"]["devices"]["items"]}
    return devices[DEVICE]


async def test_the_largest_query_tells_what_is_so(
    world: World, shared: Account, send: Send, body: Body
) -> None:
    connection = await world.open(shared, SERVICE)

    async def in_session() -> bool:
        return bool(whole_device(send, body, "owner")["sessions"])

    await until(in_session)
    device = whole_device(send, body, "owner")
    assert (device["name"], device["owner"]) == ("Raspberry Pi", {"id": "ann", "email": seed.OWNER_EMAIL})
    assert device["permissions"] == ["VIEW", "CONNECT", "SCRIPTING", "MANAGE", "ADMIN"]
    assert (device["can"], device["scripting"], device["attributes"], device["tags"]) == (True, True, {}, [])
    assert [device[f"category{letter}"] for letter in "ABCDE"] == [None] * 5
    (bob,) = [entry for entry in device["access"] if entry["user"]["id"] == "bob"]
    assert bob["user"]["email"].casefold() == LEAVER.casefold()
    service = device["services"][0]
    assert (service["id"], service["name"], service["protocol"]) == (SERVICE, "Echo 79", "tcp")
    assert (service["enabled"], service["port"], service["host"]) == (True, None, None)
    assert "bob" in {entry["user"]["id"] for entry in service["access"]}
    (session,) = device["sessions"]
    assert (session["state"], session["target"]) == ("connected", {"id": SERVICE, "name": "Echo 79"})
    assert session["user"]["email"].casefold() == LEAVER.casefold()
    events = device["events"]["items"]
    assert device["events"]["total"] >= len(events) >= 3
    assert [event["timestamp"] for event in events] == sorted(
        (event["timestamp"] for event in events), reverse=True
    )
    connected = events[0]
    assert (connected["type"], connected["id"], connected["action"]) == (
        "DEVICE_CONNECT", session["id"], "connect",
    )  # fmt: skip
    assert connected["target"] == [
        {"id": SERVICE, "name": "Echo 79", "device": {"id": DEVICE, "name": "Raspberry Pi"}}
    ]
    of_bob = [
        event for event in events if event["type"] == "DEVICE_SHARE" and event["users"][0]["id"] == "bob"
    ]
    assert (of_bob[0]["action"], of_bob[0]["shared"], of_bob[0]["scripting"]) == ("update", True, False)
    assert of_bob[0]["devices"] == [{"id": DEVICE, "name": "Raspberry Pi"}]
    assert any(event["action"] == "add" and event["actor"] for event in events)

    his = whole_device(send, body, "recipient")
    assert his["permissions"][:2] == ["VIEW", "CONNECT"]
    assert [entry["user"]["id"] for entry in his["access"]] == ["bob"]
    assert [one["id"] for one in his["sessions"]] == [session["id"]]
    assert {user["email"] for event in his["events"]["items"] for user in event["users"]} == {
        seed.RECIPIENT_EMAIL
    }

    connection.writer.close()

    async def ended() -> bool:
        return not whole_device(send, body, "owner")["sessions"]

    await until(ended)


OPENING: list[tuple[str, str, dict[str, Any]]] = [
    ("$serviceId: String!, $hostIP: String", "serviceId: $serviceId, hostIP: $hostIP", {}),
    ("$serviceId: String!, $hostIP: String", "serviceId: $serviceId, hostIP: $hostIP", {"hostIP": None}),
    (
        "$serviceId: String!, $hostIP: String!",
        "serviceId: $serviceId, hostIP: $hostIP",
        {"hostIP": "255.255.255.255"},
    ),
    ("$serviceId: String!", "serviceId: $serviceId", {}),
]
CLOSING = [
    ("$serviceId: String!, $connectionId: String!", "serviceId: $serviceId, connectionId: $connectionId"),
    ("$connectionId: String!", "connectionId: $connectionId"),
]


@pytest.mark.parametrize(("declared", "given", "variables"), OPENING)
@pytest.mark.parametrize(("closing_declared", "closing_given"), CLOSING)
def test_a_connection_is_opened_and_closed(  # noqa: PLR0917 - fixtures
    send: Send,
    body: Body,
    declared: str,
    given: str,
    variables: dict[str, Any],
    closing_declared: str,
    closing_given: str,
) -> None:
    opening = f"mutation Connect({declared}) {{ connect({given}) {{ {CONNECTION} }} }}"
    status, answer = send("owner", body(opening, {"serviceId": SERVICE, **variables}))
    assert status == 200
    connection = json.loads(answer)["data"]["connect"]
    assert connection["host"] == "127.0.0.1"
    assert connection["port"] > 0
    closing = f"mutation Disconnect({closing_declared}) {{ disconnect({closing_given}) }}"
    ids = {"serviceId": SERVICE, "connectionId": connection["id"]}
    sent = {name: value for name, value in ids.items() if f"${name}" in closing_declared}
    assert send("owner", body(closing, sent)) == (200, b'{"data":{"disconnect":true}}')


def test_keys_are_managed_as_the_desktop_client_does(send: Send, body: Body) -> None:
    _, answer = send("owner", body("mutation { createAccessKey { key secret } }", None))
    key = json.loads(answer)["data"]["createAccessKey"]["key"]
    update = """mutation updateAccessKey($key: String!, $enabled: Boolean!) {
      updateAccessKey(key: $key, enabled: $enabled) { key enabled }
    }"""
    for enabled in ("false", "true"):
        done = send("owner", body(update, {"key": key, "enabled": enabled == "true"}))
        expected = f'{{"data":{{"updateAccessKey":{{"key":"{key}","enabled":{enabled}}}}}}}'
        assert done == (200, expected.encode())
    delete = "mutation deleteAccessKey($key: String!) { deleteAccessKey(key: $key) }"
    assert send("owner", body(delete, {"key": key})) == (200, b'{"data":{"deleteAccessKey":true}}')


def test_the_printed_example_that_lacks_its_end_is_a_syntax_error(send: Send, body: Body) -> None:
    document = f"""mutation {{
      share(deviceId: "{DEVICE}", email: ["email1@example.com", "email2@example.com"], notify: true,
        services: [
          {{serviceId: "{SERVICE}", action: ADD}},
          {{serviceId: "{SERVICE}", action: REMOVE}}
        ]"""
    status, answer = send("owner", body(document, None))
    assert status == 200
    assert json.loads(answer)["errors"][0]["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"


def test_the_schema_can_be_introspected(send: Send, body: Body) -> None:
    status, answer = send("owner", body(get_introspection_query(), None))
    assert status == 200
    types = {item["name"] for item in json.loads(answer)["data"]["__schema"]["types"]}
    assert {
        "AccessKey",
        "AccessKeyResponse",
        "GuestAccess",
        "ServiceSharingOptions",
        "SharingAction",
    } <= types


async def test_a_device_that_is_not_ones_own_cannot_be_shared(world: World, send: Send, body: Body) -> None:
    device = await world.device()
    document = (DOCUMENTS / "share-desktop.graphql").read_text()
    variables = {"deviceId": device, "email": ["carol@example.com"]}
    status, answer = send("recipient", body(document, variables))
    assert status == 200
    parsed = json.loads(answer)
    assert parsed["data"] == {"share": False}
    assert parsed["errors"][0]["extensions"]["code"] == "DEVICE_NOT_FOUND"
