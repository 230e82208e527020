"""What clients ask for: `login` and below, and connections."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Send = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

LARGEST = """
query Devices($orgId: String, $limit: Int, $offset: Int, $state: String, $name: String,
              $tag: ListFilter, $sort: String, $owner: Boolean, $platform: [Int!], $after: ID, $id: [String!],
              $application: [Int!], $hardwareId: String) {
  login { account(id: $orgId) { devices(size: $limit, from: $offset, state: $state, name: $name, tag: $tag,
      sort: $sort, owner: $owner, platform: $platform, after: $after, id: $id, application: $application,
      hardwareId: $hardwareId) {
    hasMore total last
    items {
      id name state online created lastReported scripting attributes permissions can(permission: MANAGE)
      categoryA categoryB categoryC categoryD categoryE
      owner { id email } access { created scripting user { id email } } tags { name }
      services { id name created application protocol port host enabled state online attributes permissions
                 channel access { scripting user { id email } } }
      pending { email scripting } shareState
    }
  } }
  contacts { id email } }
}
"""


async def test_the_largest_query_of_a_published_client_runs_with_nulls(graphql: Send, asked: Asked) -> None:
    names = ("orgId", "limit", "offset", "state", "name", "tag", "sort", "owner", "platform", "after")
    answer = (await graphql(LARGEST, dict.fromkeys(names))).json()
    assert "errors" not in answer
    login = answer["data"]["login"]
    assert login["contacts"] == [{"id": "0199a000-0000-7000-8000-00000000000a", "email": "bob@example.com"}]
    devices = login["account"]["devices"]
    assert (devices["total"], devices["hasMore"], devices["last"]) == (1, False, "1")
    (device,) = devices["items"]
    assert (device["id"], device["name"], device["state"], device["online"]) == (
        "cam-1",
        "Front door",
        "unknown",
        False,
    )
    assert device["owner"] == {"id": "ann", "email": "ann@example.com"}
    assert device["permissions"] == ["VIEW", "CONNECT", "SCRIPTING", "MANAGE", "ADMIN"]
    assert device["can"] is True
    assert [entry["user"] for entry in device["access"]] == [{"id": "bob", "email": "bob@example.com"}]
    assert device["pending"] == [{"email": "carol@example.com", "scripting": False}]
    stream, shell = device["services"]
    assert stream["access"] == []
    assert shell["access"] == [{"scripting": True, "user": {"id": "bob", "email": "bob@example.com"}}]
    assert (shell["protocol"], shell["host"], shell["port"]) == ("ssh", None, None)
    (listed,) = [item for item in asked if item["call"] == "GET read-api/v1/devices"]
    assert dict(listed["params"]) == {"from": "0", "size": "100", "sort": "name"}


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        ("size: 5, from: 10", {"from": "10", "size": "5", "sort": "name"}),
        ('after: "15", size: 5', {"from": "15", "size": "5", "sort": "name"}),
        (
            'name: "door", owner: false, sort: "-name"',
            {"from": "0", "size": "100", "sort": "-name", "name": "door", "owner": "false"},
        ),
        ("size: 0", {"from": "0", "size": "1", "sort": "name"}),
        ('sort: "state,attributes.name"', {"from": "0", "size": "100", "sort": "name"}),
        ('state: "unknown"', {"from": "0", "size": "100", "sort": "name"}),
    ],
)
async def test_arguments_reach_the_read_api(
    graphql: Send, asked: Asked, arguments: str, params: dict[str, str]
) -> None:
    answer = await graphql(f"{{ login {{ devices({arguments}) {{ total }} }} }}")
    assert answer.json() == {"data": {"login": {"devices": {"total": 1}}}}
    assert dict(asked[-1]["params"]) == params


@pytest.mark.parametrize(
    "arguments",
    ["platform: [5]", "application: [28]", 'hardwareId: "x"', 'tag: {values: ["t"]}', 'state: "active"'],
)
async def test_a_filter_by_what_is_not_kept_finds_nothing(graphql: Send, arguments: str) -> None:
    answer = await graphql(f"{{ login {{ devices({arguments}) {{ total items {{ id }} }} }} }}")
    assert answer.json() == {"data": {"login": {"devices": {"total": 0, "items": []}}}}


@pytest.mark.parametrize("arguments", ["size: 1001", "size: -1", "from: -1", 'after: "x"'])
async def test_a_page_that_cannot_be_is_refused(graphql: Send, arguments: str) -> None:
    answer = await graphql(f"{{ login {{ devices({arguments}) {{ total }} }} }}")
    assert answer.status_code == 200
    assert answer.json()["data"] == {"login": None}
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "INVALID_REQUEST"}
    assert error["path"] == ["login", "devices"]


async def test_devices_by_id_leave_out_what_is_not_there(graphql: Send) -> None:
    answer = await graphql('{ login { device(id: ["nobodys", "cam-1", "cam-1"]) { id } } }')
    assert answer.json() == {"data": {"login": {"device": [{"id": "cam-1"}]}}}


@pytest.mark.parametrize(
    ("scripting", "permissions"), [(False, ["VIEW", "CONNECT"]), (True, ["VIEW", "CONNECT", "SCRIPTING"])]
)
async def test_a_recipient_may_view_and_connect(
    graphql: Send, replies: Replies, scripting: bool, permissions: list[str]
) -> None:
    _, device = replies["GET read-api/v1/devices/cam-1"]
    shared = {**device, "owned": False, "share_state": "in", "scripting": scripting}
    replies["GET read-api/v1/devices/cam-1"] = (200, shared)
    answer = await graphql(
        '{ login { device(id: "cam-1") { permissions scripting shareState admin: can(permission: ADMIN) } } }'
    )
    assert answer.json()["data"]["login"]["device"] == [
        {"permissions": permissions, "scripting": scripting, "shareState": "in", "admin": False}
    ]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", True),
        ("(id: null, email: null)", True),
        ('(id: "ann")', True),
        ('(email: "ANN@example.com")', True),
        ('(id: "bob")', False),
        ('(email: "bob@example.com")', False),
    ],
)
async def test_account_is_ones_own_or_nothing(graphql: Send, arguments: str, found: bool) -> None:
    answer = await graphql(f"{{ login {{ account{arguments} {{ id email }} }} }}")
    own = {"id": "ann", "email": "ann@example.com"}
    assert answer.json() == {"data": {"login": {"account": own if found else None}}}


async def test_a_position_is_handed_on_and_its_refusal_handed_back(
    graphql: Send, asked: Asked, replies: Replies
) -> None:
    query = "{ login { devices { total } } }"
    await graphql(query, headers={"Latchkey-Position": "cam-1@7, cam-2@1"})
    assert asked[-1]["headers"]["latchkey-position"] == "cam-1@7, cam-2@1"
    replies["GET read-api/v1/devices"] = (
        503,
        {"error": {"code": "NOT_YET_VISIBLE", "message": "cam-1 is at 6. Try again."}},
    )
    answer = await graphql(query, headers={"Latchkey-Position": "cam-1@7"})
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["extensions"] == {"code": "NOT_YET_VISIBLE"}


async def test_a_position_that_is_none_is_refused(graphql: Send, asked: Asked) -> None:
    answer = await graphql("{ login { id } }", headers={"Latchkey-Position": "yesterday"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "INVALID_POSITION"
    assert "<device_id>@<version>" in answer.json()["errors"][0]["message"]
    assert not asked


async def test_invitations_are_listed_accepted_and_rejected(graphql: Send, asked: Asked) -> None:
    answer = await graphql(
        "{ login { invitations { id device { id name } owner { email } invitationVersion scripting"
        " services { id permissions } permissions } } }"
    )
    (invitation,) = answer.json()["data"]["login"]["invitations"]
    assert invitation == {
        "id": "0199a000-0000-7000-8000-000000000003",
        "device": {"id": "cam-9", "name": "Back yard"},
        "owner": {"email": "dan@example.com"},
        "invitationVersion": 4,
        "scripting": False,
        "services": [{"id": "cam-1:rtsp", "permissions": ["live_view"]}],
        "permissions": None,
    }
    variables = {"device": "cam-9", "share": invitation["id"], "version": 4}
    accept = (
        "mutation ($device: String!, $share: String!, $version: Int!)"
        " { acceptInvitation(deviceId: $device, shareId: $share, invitationVersion: $version) }"
    )
    accepted = await graphql(accept, variables)
    assert accepted.content == b'{"data":{"acceptInvitation":true}}'
    assert accepted.headers["latchkey-position"] == "cam-9@7"
    assert asked[-1]["body"]["invitation_version"] == 4
    rejected = await graphql(
        "mutation ($device: String!, $share: String!)"
        " { rejectInvitation(deviceId: $device, shareId: $share) }",
        {"device": "cam-9", "share": invitation["id"]},
    )
    assert rejected.content == b'{"data":{"rejectInvitation":true}}'
    assert asked[-1]["call"] == "POST share-command/v1/commands/RejectShare"


async def test_an_invitation_that_cannot_be_one_is_refused(graphql: Send, asked: Asked) -> None:
    answer = await graphql('mutation { rejectInvitation(deviceId: "cam-9", shareId: "42") }')
    assert answer.json()["data"] == {"rejectInvitation": False}
    assert answer.json()["errors"][0]["extensions"]["code"] == "INVALID_REQUEST"
    assert not asked


CONNECT = """mutation ($service: String!, $ip: String) {
  connect(serviceId: $service, hostIP: $ip) { id host port url created timeout reverseProxy session { id } }
}"""


async def test_connect_and_disconnect(graphql: Send, asked: Asked) -> None:
    answer = await graphql(
        CONNECT, {"service": "cam-1:ssh", "ip": None}, headers={"Latchkey-Position": "cam-1@7"}
    )
    connection = answer.json()["data"]["connect"]
    assert (connection["id"], connection["host"], connection["port"]) == (
        "conn-1",
        "relay.example.com",
        20001,
    )
    assert connection["url"] == "ssh://relay.example.com:20001"
    assert asked[-1]["body"] == {"service_id": "cam-1:ssh", "host_ip": "255.255.255.255"}
    assert asked[-1]["headers"]["latchkey-position"] == "cam-1@7"
    closed = await graphql('mutation { disconnect(connectionId: "conn-1", serviceId: "cam-1:ssh") }')
    assert closed.content == b'{"data":{"disconnect":true}}'


async def test_what_is_not_granted_is_not_connected(graphql: Send, replies: Replies) -> None:
    replies["POST gateway/v1/connections"] = (
        403,
        {"error": {"code": "ACCESS_DENIED", "message": "No access to this service."}},
    )
    answer = await graphql(CONNECT, {"service": "nobodys"})
    assert answer.status_code == 200
    assert answer.json()["data"] is None
    assert answer.json()["errors"][0]["extensions"] == {"code": "ACCESS_DENIED"}


async def test_a_connection_of_somebody_else_is_not_closed(graphql: Send, asked: Asked) -> None:
    answer = await graphql('mutation { disconnect(connectionId: "../v1/x?y") }')
    assert answer.json()["data"] == {"disconnect": False}
    assert answer.json()["errors"][0]["path"] == ["disconnect"]
    assert asked[-1]["call"].startswith("DELETE gateway/v1/connections/")
