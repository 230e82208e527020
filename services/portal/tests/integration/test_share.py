"""The `share` mutation as clients of remote.it send it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from devstack.issuer import IssuerServer

Send = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]
BOB = ["bob@example.com"]
DONE = b'{"data":{"share":true}}'

ADD_INLINE = """
mutation {
  share(
    deviceId: "80:00:00:00:01:00:00:01"
    email: ["bob@example.com", "carol@example.com"]
    scripting: true
    notify: false
    action: ADD
  )
}
"""
MIXED = """
mutation query($deviceId: String!, $email: [String!]!, $scripting: Boolean,
               $services: [ServiceSharingOptions!]) {
  share(deviceId: $deviceId, email: $email, scripting: $scripting, services: $services)
}
"""
FULL = """
mutation Share($deviceId: String, $deviceIds: [String!], $emails: [String!]!, $notify: Boolean,
               $services: [ServiceSharingOptions!], $scripting: Boolean, $action: SharingAction) {
  share(deviceId: $deviceId, deviceIds: $deviceIds, email: $emails, notify: $notify, services: $services,
        scripting: $scripting, action: $action)
}
"""
STRICT = """
mutation ($id: String!, $emails: [String!]!, $scripting: Boolean!, $notify: Boolean!,
          $action: SharingAction!) {
  share(deviceId: $id, email: $emails, scripting: $scripting, notify: $notify, action: $action)
}
"""
UNSHARE = """
mutation query($deviceId: String!, $email: [String!]!) {
  share(deviceId: $deviceId, email: $email, action: REMOVE)
}
"""
LEAVE = 'mutation { share(deviceId: "cam-1", email: "ann@example.com", action: LEAVE) }'


def command(asked: Asked) -> dict[str, Any]:
    """The only command that was sent, without its id and what it leaves open."""
    sent = [item for item in asked if "/commands/" in item["call"]]
    assert len(sent) == 1, sent
    name = sent[0]["call"].rpartition("/")[2]
    body: dict[str, Any] = sent[0]["body"]
    said = {key: value for key, value in body.items() if key != "command_id" and value is not None}
    return {"name": name, **said}


def request_share(**fields: Any) -> dict[str, Any]:
    """What a RequestShare looks like that says no more than it must."""
    return {
        "name": "RequestShare",
        "device_ids": ["cam-1"],
        "recipients": ["bob@example.com"],
        "services": [],
        "permissions": "all",
        "notify": True,
        **fields,
    }


def entry(service_id: str, action: str) -> dict[str, str]:
    """A service change of a command."""
    return {"service_id": service_id, "action": action, "permissions": "all"}


ONE = {"deviceId": "cam-1", "emails": ["bob@example.com"]}


@pytest.mark.parametrize(
    ("document", "variables", "expected"),
    [
        pytest.param(
            ADD_INLINE,
            None,
            request_share(
                device_ids=["80:00:00:00:01:00:00:01"],
                recipients=["bob@example.com", "carol@example.com"],
                scripting=True,
                notify=False,
            ),
            id="add, inline",
        ),
        pytest.param(
            MIXED,
            {
                "deviceId": "cam-1",
                "email": ["bob@example.com", "carol@example.com"],
                "services": [
                    {"serviceId": "cam-1:ssh", "action": "ADD"},
                    {"serviceId": "cam-1:rtsp", "action": "REMOVE"},
                    {"serviceId": "cam-1:http"},
                ],
            },
            request_share(
                recipients=["bob@example.com", "carol@example.com"],
                services=[
                    entry("cam-1:ssh", "ADD"),
                    entry("cam-1:rtsp", "REMOVE"),
                    entry("cam-1:http", "ADD"),
                ],
            ),
            id="mixed services for several people, scripting left alone",
        ),
        pytest.param(
            LEAVE,
            None,
            {"name": "LeaveShare", "device_ids": ["cam-1"], "recipients": ["ann@example.com"]},
            id="leave",
        ),
        pytest.param(
            UNSHARE,
            {"deviceId": "cam-1", "email": "bob@example.com"},
            {"name": "RevokeShare", "device_ids": ["cam-1"], "recipients": ["bob@example.com"]},
            id="remove; one address instead of a list",
        ),
        pytest.param(
            FULL,
            {**ONE, "deviceIds": None, "notify": None, "services": None, "scripting": None, "action": None},
            request_share(),
            id="explicit nulls are the defaults",
        ),
        pytest.param(FULL, ONE, request_share(), id="variables that are not sent"),
        pytest.param(
            FULL, {**ONE, "scripting": False}, request_share(scripting=False), id="scripting taken away"
        ),
        pytest.param(
            FULL,
            {**ONE, "deviceIds": ["cam-2", "cam-1"]},
            request_share(device_ids=["cam-1", "cam-2"]),
            id="several devices, one command",
        ),
        pytest.param(
            STRICT,
            {"id": "cam-1", "emails": BOB, "scripting": True, "notify": True, "action": "ADD"},
            request_share(scripting=True),
            id="variables of non-null types",
        ),
        pytest.param(
            FULL,
            {**ONE, "action": "REMOVE", "services": [{"serviceId": "cam-1:ssh"}], "scripting": False},
            request_share(services=[entry("cam-1:ssh", "REMOVE")]),
            id="remove single services",
        ),
        pytest.param(
            """mutation { share(deviceId: "cam-1", email: ["bob@example.com"],
                                services: [{serviceId: "cam-1:ssh", action: null}]) }""",
            None,
            request_share(services=[entry("cam-1:ssh", "ADD")]),
            id="null as the action of an entry",
        ),
    ],
)
async def test_documents_of_old_clients_run_as_they_are_printed(
    graphql: Send, asked: Asked, document: str, variables: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    answer = await graphql(document, variables)
    assert (answer.status_code, answer.content) == (200, DONE)
    assert answer.headers["content-type"] == "application/json"
    positions = ", ".join(f"{device}@7" for device in expected["device_ids"])
    assert answer.headers["latchkey-position"] == positions
    assert command(asked) == expected
    assert asked[0]["account"] == "ann"


async def test_adding_and_removing_one_service_is_done_with_a_warning(graphql: Send, asked: Asked) -> None:
    entries = [
        {"serviceId": "cam-1:ssh", "action": "ADD"},
        {"serviceId": "cam-1:ssh", "action": "REMOVE"},
    ]
    answer = (await graphql(FULL, {**ONE, "services": entries})).json()
    assert answer["data"] == {"share": True}
    (warning,) = answer["extensions"]["warnings"]
    assert (warning["code"], warning["serviceId"]) == ("ADDED_AND_REMOVED", "cam-1:ssh")
    assert [item["action"] for item in command(asked)["services"]] == ["ADD", "REMOVE"]


async def test_a_refusal_is_false_beside_an_error_that_names_what_is_wrong(
    graphql: Send, replies: Replies
) -> None:
    replies["POST share-command/v1/commands/RequestShare"] = (
        404,
        {
            "error": {
                "code": "SERVICE_NOT_ON_DEVICE",
                "message": "The device has no such service.",
                "device_id": "cam-1",
                "service_id": "cam-9:x",
                "recipient": "bob@example.com",
                "internal_detail": "not for clients",
            }
        },
    )
    answer = await graphql(FULL, ONE)
    assert answer.status_code == 200
    assert answer.json() == {
        "data": {"share": False},
        "errors": [
            {
                "message": "The device has no such service.",
                "path": ["share"],
                "extensions": {
                    "code": "SERVICE_NOT_ON_DEVICE",
                    "deviceId": "cam-1",
                    "email": "bob@example.com",
                    "serviceId": "cam-9:x",
                },
            }
        ],
    }
    assert "latchkey-position" not in answer.headers


@pytest.mark.parametrize(
    ("variables", "code", "about"),
    [
        ({"emails": ["bob@example.com"]}, "INVALID_REQUEST", {}),
        ({"emails": ["bob@example.com"], "deviceIds": []}, "INVALID_REQUEST", {}),
        ({"deviceId": "cam-1", "emails": []}, "INVALID_REQUEST", {}),
        ({**ONE, "services": []}, "INVALID_REQUEST", {}),
        ({**ONE, "action": "REMOVE", "services": []}, "INVALID_REQUEST", {}),
        ({**ONE, "action": "LEAVE", "services": [{"serviceId": "cam-1:ssh"}]}, "INVALID_REQUEST", {}),
        (
            {**ONE, "services": [{"serviceId": "s", "action": "LEAVE"}]},
            "INVALID_REQUEST",
            {"serviceId": "s"},
        ),
        ({**ONE, "deviceId": "not an id!"}, "INVALID_REQUEST", {"deviceId": "not an id!"}),
        ({**ONE, "services": [{"serviceId": "x" * 65}]}, "INVALID_REQUEST", {"serviceId": "x" * 65}),
        ({"deviceId": "cam-1", "emails": ["b@example.com"] * 1001}, "LIMIT_REACHED", {}),
    ],
)
async def test_a_call_that_means_nothing_asks_nobody(
    graphql: Send, asked: Asked, variables: dict[str, Any], code: str, about: dict[str, str]
) -> None:
    answer = (await graphql(FULL, variables)).json()
    assert answer["data"] == {"share": False}
    (error,) = answer["errors"]
    assert error["extensions"] == {"code": code, **about}
    assert not asked


async def test_an_idempotency_key_is_one_id_for_one_account(
    graphql: Send, client: httpx.AsyncClient, issuer: IssuerServer, asked: Asked
) -> None:
    for _ in range(2):
        await graphql(FULL, ONE, headers={"Idempotency-Key": "order-66"})
    await graphql(FULL, ONE)
    await client.post(
        "/graphql/v1",
        json={"query": FULL, "variables": ONE},
        headers={"Authorization": f"Bearer {issuer.token('bob')}", "Idempotency-Key": "order-66"},
    )
    ids = [item["body"]["command_id"] for item in asked]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_an_unusable_idempotency_key_is_refused(graphql: Send, asked: Asked) -> None:
    answer = await graphql(FULL, ONE, headers={"Idempotency-Key": "two words"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "INVALID_REQUEST"
    assert not asked


async def test_a_lost_answer_is_asked_for_again_under_the_same_id(
    graphql: Send, asked: Asked, losses: list[str]
) -> None:
    losses.append("POST share-command/v1/commands/RequestShare")
    assert (await graphql(FULL, ONE)).content == DONE
    assert len(asked) == 2
    assert asked[0]["body"] == asked[1]["body"]


async def test_a_service_that_stays_away_is_a_refusal_after_the_second_try(
    graphql: Send, asked: Asked, losses: list[str]
) -> None:
    losses += ["POST share-command/v1/commands/RequestShare"] * 3
    answer = await graphql(FULL, ONE)
    assert answer.status_code == 200
    assert answer.json()["data"] == {"share": False}
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    assert len(asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        (500, {"error": {"code": "INTERNAL", "message": "Traceback: secret"}}),
        (502, "<html>"),
        (401, {"error": {"code": "UNAUTHENTICATED", "message": "key of portal unknown"}}),
        (400, {"error": "secret"}),
    ],
)
async def test_trouble_between_services_is_not_shown_to_clients(
    graphql: Send, replies: Replies, reply: tuple[int, Any]
) -> None:
    replies["POST share-command/v1/commands/RequestShare"] = reply
    answer = await graphql(FULL, ONE)
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    assert "secret" not in answer.text
    assert "portal" not in answer.text


async def test_two_shares_in_one_document_are_answered_each_for_itself(
    graphql: Send, replies: Replies, asked: Asked
) -> None:
    replies["POST share-command/v1/commands/RevokeShare"] = (
        404,
        {"error": {"code": "DEVICE_NOT_FOUND", "message": "No such device.", "device_id": "cam-2"}},
    )
    answer = await graphql(
        """mutation {
          first: share(deviceId: "cam-1", email: "bob@example.com")
          second: share(deviceId: "cam-2", email: "bob@example.com", action: REMOVE)
        }""",
        headers={"Idempotency-Key": "k"},
    )
    assert answer.json()["data"] == {"first": True, "second": False}
    assert [error["path"] for error in answer.json()["errors"]] == [["second"]]
    assert asked[0]["body"]["command_id"] != asked[1]["body"]["command_id"]


async def test_the_correlation_id_goes_on_to_the_services(graphql: Send, asked: Asked) -> None:
    answer = await graphql(FULL, ONE, headers={"X-Correlation-Id": "follow-me"})
    assert answer.headers["x-correlation-id"] == "follow-me"
    assert asked[0]["headers"]["x-correlation-id"] == "follow-me"


async def test_no_address_reaches_the_logs(
    graphql: Send, replies: Replies, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await graphql(FULL, {**ONE, "emails": ["private@example.com"]})
    await graphql('mutation { share(deviceId: "cam-1", email: "private@example.com", nonsense: 1) }')
    await graphql('mutation { share(deviceId: "cam-1", email: "private@example.com" }')
    await graphql(FULL, {**ONE, "emails": [{"address": "private@example.com"}]})
    replies["GET read-api/v1/me"] = (200, {"account_id": 1})
    await graphql("{ login { email } }")
    out, err = capfd.readouterr()
    assert "private" not in out + err + caplog.text
