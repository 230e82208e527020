"""Requests that cannot be served: who is not signed in, what is no GraphQL, what asks too much."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from graphql import get_introspection_query

from devstack.issuer import IssuerServer
from portal.app import build
from portal.settings import Settings

Send = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
SHARE = 'mutation { share(deviceId: "cam-1", email: "bob@example.com") }'


def code_of(answer: httpx.Response) -> str:
    """The code of the first error."""
    return answer.json()["errors"][0]["extensions"]["code"]


def _bad_authorizations(issuer: IssuerServer) -> dict[str, str | None]:
    """Headers that name nobody, each with what is wrong."""
    return {
        "none": None,
        "basic": "Basic YTpi",
        "empty": "Bearer ",
        "no token": "Bearer not.a.token",
        "signed by another": f"Bearer {issuer.foreign_token('ann')}",
        "expired": f"Bearer {issuer.expired_token('ann')}",
        "for another audience": f"Bearer {issuer.token('ann', aud='other')}",
        "of another issuer": f"Bearer {issuer.token('ann', iss='https://elsewhere.test')}",
        "for the browser": f"Bearer {issuer.token('ann', aud='latchkey-portal')}",
        "an account that cannot be one": f"Bearer {issuer.token('a b')}",
    }


async def test_without_a_valid_token_the_answer_is_401(
    client: httpx.AsyncClient, issuer: IssuerServer, asked: Asked
) -> None:
    for wrong, value in _bad_authorizations(issuer).items():
        headers = {"Authorization": value} if value is not None else {}
        answer = await client.post("/graphql/v1", json={"query": SHARE}, headers=headers)
        assert answer.status_code == 401, wrong
        assert code_of(answer) == "UNAUTHENTICATED", wrong
        assert "data" not in answer.json(), wrong
    assert not asked


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'"query"',
        b"{}",
        b'{"query": 1}',
        b'{"query": ""}',
        b'{"query": null}',
        b'{"query": "{login{id}}", "variables": []}',
        b'{"query": "{login{id}}", "operationName": 1}',
        b'[{"query": "{login{id}}"}]',
        b'{"query": "\\ud800"}',
        b'{"query": "{login{id}}", "variables": ' + b"[" * 100_000 + b"}",
    ],
)
async def test_a_body_that_is_no_request_is_a_coded_400(
    client: httpx.AsyncClient, issuer: IssuerServer, asked: Asked, body: bytes
) -> None:
    headers = {"Authorization": f"Bearer {issuer.token('ann')}"}
    answer = await client.post("/graphql/v1", content=body, headers=headers)
    assert answer.status_code == 400
    assert code_of(answer) == "INVALID_JSON"
    assert not asked


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_a_megabyte_is_refused(
    client: httpx.AsyncClient, issuer: IssuerServer, asked: Asked, declared: bool
) -> None:
    body = json.dumps({"query": SHARE, "variables": {"x": "y" * 1_000_001}}).encode()

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {"Authorization": f"Bearer {issuer.token('ann')}"}
    answer = await client.post("/graphql/v1", content=body if declared else chunks(), headers=headers)
    assert answer.status_code == 413
    assert "TOO_LARGE" in answer.text
    assert not asked


DEEP = "{ login " + "{ account " * 14 + "{ id }" + " }" * 14 + " }"
VERY_DEEP = "{ login " + "{ account " * 3000 + "{ id }" + " }" * 3000 + " }"
ALIASES = "{ login { " + " ".join(f"a{n}: id" for n in range(30)) + " } }"
ALIASED_SHARES = "mutation { " + " ".join(f"a{n}: {SHARE[11:-2]}" for n in range(30)) + " }"
TOKENS = "{ login { " + "id " * 20_000 + "} }"


@pytest.mark.parametrize(
    ("document", "variables", "code"),
    [
        pytest.param("mutation { share(", None, "GRAPHQL_PARSE_FAILED", id="syntax"),
        pytest.param(
            'mutation { share(deviceId: "cam-1", email: ["b@example.com"]',
            None,
            "GRAPHQL_PARSE_FAILED",
            id="the printed example without its end",
        ),
        pytest.param("   ", None, "GRAPHQL_PARSE_FAILED", id="blank"),
        pytest.param("{ nobody }", None, "GRAPHQL_VALIDATION_FAILED", id="unknown field"),
        pytest.param(
            'mutation { share(deviceId: "c", email: 1) }', None, "GRAPHQL_VALIDATION_FAILED", id="type"
        ),
        pytest.param(
            'mutation { share(deviceId: "c") }', None, "GRAPHQL_VALIDATION_FAILED", id="missing argument"
        ),
        pytest.param(
            'mutation { share(deviceId: "c", email: "b@e.com", action: SELL) }',
            None,
            "GRAPHQL_VALIDATION_FAILED",
            id="unknown action",
        ),
        pytest.param(
            'mutation ($e: [String!]!) { share(deviceId: "c", email: $e) }',
            {"e": [1]},
            "BAD_USER_INPUT",
            id="variable of another type",
        ),
        pytest.param(
            'mutation ($e: [String!]!) { share(deviceId: "c", email: $e) }',
            None,
            "BAD_USER_INPUT",
            id="missing variable",
        ),
        pytest.param("subscription { x }", None, "GRAPHQL_VALIDATION_FAILED", id="subscription"),
        pytest.param("fragment f on User { id }", None, "GRAPHQL_VALIDATION_FAILED", id="no operation"),
        pytest.param(DEEP, None, "GRAPHQL_VALIDATION_FAILED", id="deep"),
        pytest.param(VERY_DEEP, None, "GRAPHQL_PARSE_FAILED", id="very deep"),
        pytest.param(ALIASES, None, "GRAPHQL_VALIDATION_FAILED", id="aliases"),
        pytest.param(ALIASED_SHARES, None, "GRAPHQL_VALIDATION_FAILED", id="aliased mutations"),
        pytest.param(TOKENS, None, "GRAPHQL_PARSE_FAILED", id="tokens"),
    ],
)
async def test_a_document_that_cannot_run_gives_errors_without_data(
    graphql: Send, asked: Asked, document: str, variables: dict[str, Any] | None, code: str
) -> None:
    answer = await graphql(document, variables)
    assert answer.status_code == 200
    assert code_of(answer) == code
    assert "data" not in answer.json()
    assert "Traceback" not in answer.text
    assert not asked


async def test_an_unknown_operation_name_is_said_so(client: httpx.AsyncClient, issuer: IssuerServer) -> None:
    answer = await client.post(
        "/graphql/v1",
        json={"query": "query a { login { id } } query b { login { id } }", "operationName": "c"},
        headers={"Authorization": f"Bearer {issuer.token('ann')}"},
    )
    assert "data" not in answer.json()
    assert '"c"' in answer.json()["errors"][0]["message"]


async def test_introspection_is_served(graphql: Send) -> None:
    answer = await graphql(get_introspection_query())
    assert "errors" not in answer.json()
    types = {kind["name"]: kind for kind in answer.json()["data"]["__schema"]["types"]}
    share = next(field for field in types["Mutation"]["fields"] if field["name"] == "share")
    defaults = {item["name"]: item["defaultValue"] for item in share["args"]}
    ours = ("permissions", "startsAt", "endsAt", "expiresAt", "message")
    assert {defaults.pop(name) for name in ours} == {None}, "an old client leaves them out"
    assert defaults == {
        "deviceId": None,
        "deviceIds": None,
        "email": None,
        "services": None,
        "scripting": "false",
        "notify": "true",
        "action": "ADD",
    }


async def test_get_is_not_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/graphql/v1")).status_code == 405


async def test_a_bug_shows_nothing_of_our_insides(
    graphql: Send, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret: see line 12")

    monkeypatch.setattr("portal.schema.Device.of", broken)
    answer = await graphql("{ login { devices { items { id } } } }")
    assert answer.status_code == 200
    assert code_of(answer) == "INTERNAL"
    assert "secret" not in answer.text
    assert asked


@pytest.mark.usefixtures("early_in_a_minute")
async def test_reading_without_end_is_slowed(
    environment: dict[str, str], peers: object, issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    del peers  # the services, as every test finds them
    for name, value in {**environment, "LATCHKEY_REQUESTS_PER_MINUTE": "3"}.items():
        monkeypatch.setenv(name, value)
    async with build(Settings()) as app:  # pyright: ignore[reportCallIssue] - filled from the environment
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://portal.example.test") as client:

            async def ask(account: str) -> httpx.Response:
                token = {"Authorization": f"Bearer {issuer.token(account)}"}
                return await client.post("/graphql/v1", json={"query": "{ login { id } }"}, headers=token)

            assert [(await ask("ann")).status_code for _ in range(3)] == [200] * 3
            refused = await ask("ann")
            assert (refused.status_code, code_of(refused)) == (429, "RATE_LIMITED")
            seconds = int(refused.headers["retry-after"])
            assert 1 <= seconds <= 120
            assert refused.json()["errors"][0]["extensions"]["retryAfterSeconds"] == seconds
            assert (await ask("bob")).status_code == 200, "each account for itself"
