"""The evaluation endpoint as an upstream service asks it (OpenID AuthZEN Authorization API 1.0)."""

from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Gateways, Running, World

pytestmark = pytest.mark.slow

NOWHERE = ("127.0.0.1", 1)


@pytest.fixture
async def gateway(gateways: "Gateways") -> "Running":
    return await gateways.start()


async def ask(gateway: "Running", what: str, body: object, **headers: str) -> httpx.Response:
    return await gateway.http.post(
        f"/access/v1/{what}", json=body, headers=gateway.headers("alarm-service", **headers)
    )


def question(account: str, action: str, service: str) -> dict[str, Any]:
    return {
        "subject": {"type": "account", "id": account, "properties": {"department": "unknown to us"}},
        "action": {"name": action},
        "resource": {"type": "service", "id": service},
        "context": {"time": "2026-01-31T17:00:00Z"},
        "unheard_of": True,
    }


async def test_one_question(gateway: "Running", world: "World") -> None:
    camera = await world.device("cam-1", NOWHERE, protocol="rtsp", permissions="live_view,ptz")
    await world.share("cam-1", "ann", '["ptz"]', lasts="1 hour")
    answer = await ask(gateway, "evaluation", question("ann", "ptz", camera), X_Request_ID="id 7")
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, "id 7")
    found = answer.json()
    context = found.pop("context")
    assert found == {"decision": True}
    assert (context["code"], context["reason"], context["position"]) == ("ALLOWED", "granted", "cam-1@1")
    assert 0 <= context["age_seconds"] <= 15
    assert 3500 < context["holds_seconds"] <= 3600
    assert context["share_id"]
    owner = (await ask(gateway, "evaluation", question("owner", "live_view", camera))).json()
    assert (owner["decision"], owner["context"]["reason"]) == (True, "owner")
    assert owner["context"]["share_id"] is None
    nothing = question("ann", "ptz", camera)
    for body in (
        question("ann", "live_view", camera),
        question("bob", "ptz", camera),
        question("ann", "ptz", "no-such-service"),
        question("ann", "fly", camera),
        question("no account's name", "ptz", camera),
        {**nothing, "subject": {"type": "robot", "id": "ann"}},
        {**nothing, "resource": {"type": "device", "id": "cam-1"}},
    ):
        answer = await ask(gateway, "evaluation", body)
        assert answer.status_code == 200
        assert answer.json() == {
            "decision": False,
            "context": {"code": "ACCESS_DENIED", "reason": "no_grant"},
        }
    await world.revoke("cam-1")
    assert not (await ask(gateway, "evaluation", nothing, Latchkey_Position="cam-1@2")).json()["decision"]


async def test_what_cannot_be_proved_is_no(gateway: "Running", world: "World") -> None:
    camera = await world.device("cam-1", NOWHERE, permissions="connect")
    await world.share("cam-1", "ann")
    body = question("ann", "connect", camera)
    answer = (await ask(gateway, "evaluation", body, Latchkey_Position="cam-1@9")).json()
    assert (answer["decision"], answer["context"]["code"]) == (False, "NOT_YET_VISIBLE")
    assert answer["context"]["error"]["status"] == 503
    search = await ask(gateway, "search/resource", {**body, "resource": {"type": "service"}},
                       Latchkey_Position="cam-1@9")  # fmt: skip
    assert (search.status_code, search.json()["error"]["code"]) == (503, "NOT_YET_VISIBLE")


async def test_several_questions_share_defaults_and_stop_as_told(gateway: "Running", world: "World") -> None:
    service = await world.device("dev-1", NOWHERE, permissions="connect,ptz")
    await world.share("dev-1", "ann", '["connect"]')
    whole = question("ann", "connect", service)
    parts = [
        {},
        {"action": {"name": "ptz"}},
        {"subject": {"type": "account", "id": "bob"}},
        {"resource": {"type": "service", "id": service}},
    ]
    for semantic, expected in (
        (None, [True, False, False, True]),
        ("execute_all", [True, False, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ):
        body = {**whole, "evaluations": parts}
        if semantic:
            body["options"] = {"evaluations_semantic": semantic, "another_option": 1}
        answer = await ask(gateway, "evaluations", body)
        assert [each["decision"] for each in answer.json()["evaluations"]] == expected
    no_evaluations: list[object] = []
    for more in ({}, {"evaluations": no_evaluations}):
        assert (await ask(gateway, "evaluations", {**whole, **more})).json()["decision"] is True


NO_QUESTIONS: list[tuple[str, Any]] = [
    ("evaluation", {}),
    ("evaluation", []),
    ("evaluation", {**question("a", "b", "c"), "subject": {"type": "account"}}),
    ("evaluation", {**question("a", "b", "c"), "action": {"name": 7}}),
    ("evaluations", {"evaluations": [{}]}),
    ("evaluations", {**question("a", "b", "c"), "evaluations": [{}] * 1001}),
    ("evaluations", {**question("a", "b", "c"), "options": {"evaluations_semantic": "guess"}}),
    ("search/subject", question("a", "b", "c") | {"page": {"limit": -1}}),
    ("search/subject", question("a", "b", "c") | {"page": {"token": "nonsense"}}),
    ("search/resource", question("a", "b", "c") | {"page": {"token": "WyJ4Il0="}}),
    ("search/action", {"subject": {"type": "account", "id": "a"}}),
]


async def test_what_is_no_question(gateway: "Running") -> None:
    for what, body in NO_QUESTIONS:
        answer = await ask(gateway, what, body, X_Request_ID="r")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST"), body
        assert answer.headers["X-Request-ID"] == "r"


async def test_only_trusted_callers_are_answered(gateway: "Running") -> None:
    answer = await gateway.http.post("/access/v1/evaluation", json=question("a", "b", "c"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")


async def pages(gateway: "Running", what: str, body: dict[str, Any], limit: int) -> list[dict[str, str]]:
    """All results, page by page; each page but the last is full."""
    found: list[dict[str, str]] = []
    token = ""
    while True:
        page = {"limit": limit, **({"token": token} if token else {})}
        answer = await ask(gateway, what, {**body, "page": page})
        assert answer.status_code == 200, answer.text
        results = answer.json()
        found += results["results"]
        assert results["page"]["count"] == len(results["results"]) <= limit
        token = results["page"]["next_token"]
        if not token:
            return found
        assert len(results["results"]) == limit
        other = await ask(gateway, what, {**body, "page": {"limit": limit + 1, "token": token}})
        assert other.status_code == 400


async def test_who_may(gateway: "Running", world: "World") -> None:
    service = await world.device("dev-1", NOWHERE, permissions="connect,ptz")
    accounts = [f"acc-{number:02}" for number in range(25)]
    for account in accounts:
        await world.share("dev-1", account, '["connect"]')
    await world.share("dev-1", "only-ptz", '["ptz"]')
    await world.share("dev-1", "not-yet", begins="1 hour")
    await world.share("dev-1", "over", begins="-2 hours", lasts="-1 hour")
    body = question("ignored", "connect", service)
    expected = [{"type": "account", "id": account} for account in [*accounts, "owner"]]
    for limit in (7, 26, 100):
        assert await pages(gateway, "search/subject", body, limit) == expected
    nobody = await ask(gateway, "search/subject", question("x", "connect", "no-such-service"))
    assert nobody.json()["results"] == []
    for found in expected:
        assert (await ask(gateway, "evaluation", {**body, "subject": found})).json()["decision"]


async def test_with_what_he_may(gateway: "Running", world: "World") -> None:
    expected: list[str] = []
    for number in range(12):
        for owned in (True, False):
            device = f"{'own' if owned else 'given'}-{number:02}"
            service = await world.device(device, NOWHERE, permissions="connect" if number % 3 else "ptz")
            await world.more_services(device, 2, "connect")
            await world.run(
                "update permissions.device set name = $2, owner_account_id = $3 where device_id = $1",
                device,
                f"Name {'x' * 120 if number % 2 else number % 4}",
                "ann" if owned else "owner",
            )
            if not owned:
                await world.share(device, "ann")
            expected += [service] * bool(number % 3) + [f"{device}-more-{n}" for n in range(2)]
    await world.device("somebody-elses", NOWHERE)
    await world.share("somebody-elses", "bob")
    body = question("ann", "connect", "ignored")
    for limit in (1, 7, 1000):
        found = await pages(gateway, "search/resource", body, limit)
        assert {each["type"] for each in found} == {"service"}
        assert sorted(each["id"] for each in found) == sorted(expected)


async def test_what_he_may(gateway: "Running", world: "World") -> None:
    camera = await world.device("cam-1", NOWHERE, permissions="live_view,playback,ptz")
    await world.share("cam-1", "ann", '["live_view", "ptz"]')
    for account, expected in (
        ("ann", ["live_view", "ptz"]),
        ("owner", ["scripting", "live_view", "playback", "ptz"]),
        ("bob", []),
    ):
        body = question(account, "ignored", camera)
        answer = (await ask(gateway, "search/action", body)).json()
        assert answer["results"] == [{"name": name} for name in expected]
        assert answer["page"] == {"next_token": "", "count": len(expected)}


async def test_where_it_is_found(gateway: "Running") -> None:
    found = (await gateway.http.get("/.well-known/authzen-configuration")).json()
    assert found == {
        "policy_decision_point": "http://gateway",
        "access_evaluation_endpoint": "http://gateway/access/v1/evaluation",
        "access_evaluations_endpoint": "http://gateway/access/v1/evaluations",
        "search_subject_endpoint": "http://gateway/access/v1/search/subject",
        "search_resource_endpoint": "http://gateway/access/v1/search/resource",
        "search_action_endpoint": "http://gateway/access/v1/search/action",
    }
