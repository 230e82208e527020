"""What clients ask for: `login` and below, and connections."""

import re
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
      categoryA categoryB categoryC categoryD categoryE statusA statusB statusC statusD statusE hardwareId
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
        *(
            (f'state: "{state}"', {"from": "0", "size": "100", "sort": "name", "presence": presence})
            for state, presence in (("active", "online"), ("inactive", "offline"), ("unknown", "unknown"))
        ),
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
    ["platform: [5]", "application: [28]", 'hardwareId: "x"', 'tag: {values: ["t"]}', 'state: "melted"'],
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
        ('(email: " ann@EXAMPLE.com ")', True),
        ('(id: "bob")', False),
        ('(email: "bob@example.com")', False),
        ('(email: "ann")', False),
    ],
)
async def test_account_is_ones_own_or_nothing(graphql: Send, arguments: str, found: bool) -> None:
    answer = await graphql(f"{{ login {{ account{arguments} {{ id email }} }} }}")
    own = {"id": "ann", "email": "ann@example.com"}
    assert answer.json() == {"data": {"login": {"account": own if found else None}}}


async def test_addresses_that_only_look_alike_are_two(graphql: Send, replies: Replies) -> None:
    me = {"account_id": "ann", "name": "Ann", "email": "stra\u00dfe@example.com"}
    replies["GET read-api/v1/me"] = (200, me)
    query = "query ($email: String) { login { account(email: $email) { id } } }"
    own = await graphql(query, {"email": "Stra\u00dfe@example.com"})
    assert own.json() == {"data": {"login": {"account": {"id": "ann"}}}}
    other = await graphql(query, {"email": "strasse@example.com"})
    assert other.json() == {"data": {"login": {"account": None}}}


def many(count: int) -> list[dict[str, Any]]:
    """So many accepted shares."""
    return [
        {
            "share_id": f"0199a000-0000-7000-8000-0000000001{number:02}",
            "state": "active",
            "account_id": f"guest-{number}",
            "email": f"guest-{number}@example.com",
            "terms": {"scope": {"kind": "all", "permissions": "all"}, "scripting": False},
            "since": "2026-02-02T00:00:00Z",
        }
        for number in range(count)
    ]


async def test_an_access_list_that_came_in_part_is_read_whole_and_once(
    graphql: Send, replies: Replies, asked: Asked
) -> None:
    _, page = replies["GET read-api/v1/devices"]
    first = {**page["items"][0], "access": many(20), "access_total": 30, "invited_total": 0}
    replies["GET read-api/v1/devices"] = (200, {**page, "items": [first]})
    path = "GET read-api/v1/devices/cam-1/access"
    replies[path] = (200, {"items": many(30), "next": None})
    answer = (await graphql(LARGEST)).json()
    (device,) = answer["data"]["login"]["account"]["devices"]["items"]
    assert [entry["user"]["id"] for entry in device["access"]] == [f"guest-{n}" for n in range(30)]
    assert [len(service["access"]) for service in device["services"]] == [30, 30]
    guests = (await graphql("{ login { guest { user { id } } } }")).json()
    assert len(guests["data"]["login"]["guest"]) == 30
    assert [item["call"] for item in asked].count(path) == 2, "once for each request"
    replies[path] = (404, {"error": {"code": "DEVICE_NOT_FOUND", "message": "It is gone."}})
    answer = (await graphql(LARGEST)).json()
    assert len(answer["data"]["login"]["account"]["devices"]["items"][0]["access"]) == 20


async def test_an_access_list_without_an_end_is_given_up(
    graphql: Send, replies: Replies, asked: Asked
) -> None:
    _, page = replies["GET read-api/v1/devices"]
    first = {**page["items"][0], "access": many(20), "access_total": 30}
    replies["GET read-api/v1/devices"] = (200, {**page, "items": [first]})
    path = "GET read-api/v1/devices/cam-1/access"
    replies[path] = (200, {"items": many(20), "next": "again"})
    answer = (await graphql("{ login { devices { items { access { user { id } } } } } }")).json()
    assert answer["errors"][0]["extensions"]["code"] == "LIMIT_REACHED"
    read = [dict(item["params"]) for item in asked if item["call"] == path]
    assert read[:2] == [{"size": "1000"}, {"size": "1000", "cursor": "again"}]
    assert len(read) == 100


async def test_guests_are_those_who_have_accepted(graphql: Send, replies: Replies, asked: Asked) -> None:
    _, page = replies["GET read-api/v1/devices"]
    (device,) = page["items"]
    items = [device, {**device, "device_id": "cam-2", "name": "Back door"}]
    replies["GET read-api/v1/devices"] = (200, {"items": items, "total": 2, "hasMore": False})
    answer = await graphql("{ login { guest { user { id email } devices { id name } } } }")
    devices = [{"id": "cam-1", "name": "Front door"}, {"id": "cam-2", "name": "Back door"}]
    bob = {"user": {"id": "bob", "email": "bob@example.com"}, "devices": devices}
    assert answer.json() == {"data": {"login": {"guest": [bob]}}}
    assert dict(asked[-1]["params"])["owner"] == "true"


async def test_an_endless_list_of_devices_is_not_read_to_its_end(
    graphql: Send, replies: Replies, asked: Asked
) -> None:
    _, page = replies["GET read-api/v1/devices"]
    replies["GET read-api/v1/devices"] = (200, {**page, "hasMore": True, "next": "again"})
    answer = await graphql("{ login { guest { user { id } } } }")
    assert answer.json()["errors"][0]["extensions"]["code"] == "LIMIT_REACHED"
    pages = [dict(item["params"]) for item in asked if item["call"] == "GET read-api/v1/devices"]
    assert [page.get("cursor") for page in pages] == [None, *["again"] * 9]
    assert {page["shared"] for page in pages} == {"out"}


async def test_services_by_id_leave_out_what_is_not_there(graphql: Send, asked: Asked) -> None:
    answer = await graphql('{ login { service(id: ["nobodys", "cam-1:ssh", "cam-1:ssh"]) { id name } } }')
    assert answer.json() == {"data": {"login": {"service": [{"id": "cam-1:ssh", "name": "Shell"}]}}}
    (call,) = [item for item in asked if item["call"] == "GET read-api/v1/devices"]
    assert call["params"] == [("service", "nobodys"), ("service", "cam-1:ssh"), ("size", "1000")]
    assert (await graphql('{ login { service(id: "cam-1:rtsp") { id } } }')).json() == {
        "data": {"login": {"service": [{"id": "cam-1:rtsp"}]}}
    }
    assert (await graphql("{ login { service(id: []) { id } } }")).json()["data"]["login"]["service"] == []


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ("(sort: null, owner: null, id: null, name: null, state: null, tag: null)", ["rtsp", "ssh"]),
        ('(id: "cam-1:ssh")', ["ssh"]),
        ('(name: "LIVE", state: "unknown")', ["rtsp"]),
        ("(application: 28)", []),
        ('(state: "active")', []),
    ],
)
async def test_services_of_a_device_can_be_chosen(graphql: Send, arguments: str, ids: list[str]) -> None:
    query = (
        f'{{ login {{ device(id: "cam-1") {{ services{arguments} {{ id attributes(context: "c") }} }} }} }}'
    )
    services: list[Any] = [{"id": f"cam-1:{name}", "attributes": {}} for name in ids]
    assert (await graphql(query)).json() == {"data": {"login": {"device": [{"services": services}]}}}


async def test_whether_a_device_is_connected_is_told_and_can_be_asked_for(
    graphql: Send, replies: Replies
) -> None:
    seen = "2026-02-04T00:00:00+00:00"
    _, answer = replies["GET read-api/v1/devices"]
    devices = [
        {**answer["items"][0], "device_id": f"cam-{name}", "online": online, "last_seen": online and seen}
        for name, online in (("on", True), ("new", None), ("too", True))
    ]
    devices.insert(1, {**devices[0], "device_id": "cam-off", "online": False})
    replies["GET read-api/v1/devices"] = (200, {"items": devices, "total": 4, "hasMore": False})
    fields = "id state online lastReported services { state online }"

    async def listed(arguments: str) -> Any:
        query = f"{{ login {{ devices{arguments} {{ total hasMore items {{ {fields} }} }} }} }}"
        return (await graphql(query)).json()["data"]["login"]["devices"]

    found = {item["id"]: item for item in (await listed(""))["items"]}
    told = [(found[name]["state"], found[name]["online"]) for name in ("cam-on", "cam-off", "cam-new")]
    assert told == [("active", True), ("inactive", False), ("unknown", False)]
    assert [found[name]["lastReported"] for name in ("cam-on", "cam-off", "cam-new")] == [seen, seen, None]
    assert found["cam-on"]["services"][0] == {"state": "active", "online": True}


async def test_an_owner_gets_a_code_for_an_agent_and_can_remove_it(graphql: Send, replies: Replies) -> None:
    made = {"code": "AAAAA-BBBBB", "gateways": ["gw.example.com:8443"]}
    expires = "2026-02-04T00:00:00+00:00"
    replies["POST gateway/v1/agent-codes"] = (201, {"device_id": "cam-1", "expires_at": expires, **made})
    replies["DELETE gateway/v1/agents/cam-1"] = (204, None)
    answer = await graphql('mutation { createAgentCode(deviceId: "cam-1") { code gateways expires } }')
    assert answer.json() == {"data": {"createAgentCode": {**made, "expires": expires}}}
    answer = await graphql('mutation { removeAgent(deviceId: "cam-1") }')
    assert answer.json() == {"data": {"removeAgent": True}}
    refusal = (404, {"error": {"code": "DEVICE_NOT_FOUND", "message": "No."}})
    replies["POST gateway/v1/agent-codes"] = replies["DELETE gateway/v1/agents/cam-1"] = refusal
    for field, refused in (
        ("createAgentCode(deviceId: $d) { code }", None),
        ("removeAgent(deviceId: $d)", False),
    ):
        answer = (await graphql(f"mutation($d: String!) {{ {field} }}", {"d": "cam-1"})).json()
        assert list(answer["data"].values()) == [refused]
        assert answer["errors"][0]["extensions"]["code"] == "DEVICE_NOT_FOUND"


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


async def test_a_connection_is_cut_at_whichever_gateway_it_is(graphql: Send, replies: Replies) -> None:
    replies["DELETE gateway-2/v1/connections/conn-2"] = (204, None)
    cut = await graphql('mutation { disconnect(connectionId: "conn-2") }')
    assert cut.json() == {"data": {"disconnect": True}}
    replies["DELETE gateway-2/v1/connections/conn-3"] = (503, None)
    unknown = await graphql('mutation { disconnect(connectionId: "conn-3") }')
    assert unknown.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"


async def test_a_connection_of_somebody_else_is_not_closed(graphql: Send, asked: Asked) -> None:
    answer = await graphql('mutation { disconnect(connectionId: "../v1/x?y") }')
    assert answer.json()["data"] == {"disconnect": False}
    assert answer.json()["errors"][0]["path"] == ["disconnect"]
    assert asked
    assert all(re.match("DELETE gateway(-2)?/v1/connections/", each["call"]) for each in asked)
