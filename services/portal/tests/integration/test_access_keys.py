"""Access keys: making, disabling and deleting them, and requests that are signed with one."""

import asyncio
import base64
import hmac
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import requests
from cryptography.exceptions import InvalidTag
from http_message_signatures._algorithms import HMAC_SHA256
from requests_http_signature import HTTPSignatureAuth

from devstack.issuer import IssuerServer
from portal.access_keys import AccessKeys, SecretBox
from servicekit import pg

URL = "https://portal.example.test/graphql/v1"
BODY = b'{"query":"{ login { id } }"}'
CREATE = "mutation { createAccessKey { key secret } }"
LIST = "query Keys { login { apiKey { key updated } accessKeys { key enabled created lastUsed } } }"
UPDATE = """mutation updateAccessKey($key: String!, $enabled: Boolean!) {
  updateAccessKey(key: $key, enabled: $enabled) { key enabled }
}"""
DELETE = "mutation deleteAccessKey($key: String!) { deleteAccessKey(key: $key) }"
LIMIT = "LIMIT_REACHED"

Graphql = Callable[..., Any]


@pytest.fixture
async def key(table: Any, graphql: Graphql) -> dict[str, str]:
    """A key of Ann's, as `createAccessKey` answered it."""
    del table
    return (await graphql(CREATE)).json()["data"]["createAccessKey"]


def cavage(key: dict[str, str], *, host: str = "api.remote.it", at: float | None = None) -> dict[str, str]:
    """The headers of scheme (a)."""
    names = "(request-target) host date content-type"
    date = formatdate(at or time.time(), usegmt=True)
    base = f"(request-target): post /graphql/v1\nhost: {host}\ndate: {date}\ncontent-type: application/json"
    mac = hmac.digest(base64.b64decode(key["secret"]), base.encode(), "sha256")
    signature = base64.b64encode(mac).decode()
    return {
        "Authorization": f'Signature keyId="{key["key"]}",algorithm="hmac-sha256",headers="{names}",'
        f'signature="{signature}"',
        "Date": date,
        "Content-Type": "application/json",
    }


def rfc_9421(key: dict[str, str]) -> dict[str, str]:
    """The headers of scheme (b), by the client that users have."""
    auth = HTTPSignatureAuth(
        key_id=key["key"], key=base64.b64decode(key["secret"]), signature_algorithm=HMAC_SHA256
    )
    headers = requests.Request("POST", URL, data=BODY, auth=auth).prepare().headers
    return {name: str(value) for name, value in headers.items()}


def code(answer: httpx.Response) -> str:
    return answer.json()["errors"][0]["extensions"]["code"]


async def test_a_key_is_shown_once_and_its_secret_kept_sealed(
    table: Any, graphql: Graphql, key: dict[str, str], environment: dict[str, str]
) -> None:
    assert re.fullmatch(r"[A-Z0-9]{20}", key["key"])
    secret = base64.b64decode(key["secret"])
    assert len(secret) >= 32
    assert b"\0" not in secret and not secret.endswith(b"\n"), "shells lose these"
    (listed,) = (await graphql(LIST)).json()["data"]["login"]["accessKeys"]
    assert listed["created"].startswith("20")
    assert {**listed, "created": None} == {
        "key": key["key"], "enabled": True, "created": None, "lastUsed": None
    }  # fmt: skip
    kept: bytes = await table.fetchval("select sealed_secret from access_key")
    assert secret not in kept
    box = SecretBox(environment["LATCHKEY_ACCESS_KEY_SECRET"])
    assert box.open(kept, key_id=key["key"], account_id="ann") == secret
    for wrong in ({"key_id": "A" * 20, "account_id": "ann"}, {"key_id": key["key"], "account_id": "bob"}):
        with pytest.raises(InvalidTag):
            box.open(kept, **wrong)


@pytest.mark.parametrize("sign", [cavage, rfc_9421])
async def test_a_signed_request_acts_as_the_keys_account(
    client: httpx.AsyncClient,
    graphql: Graphql,
    key: dict[str, str],
    asked: list[dict[str, Any]],
    sign: Callable[..., dict[str, str]],
) -> None:
    headers = sign(key)
    for _ in range(3):  # equal requests within a second are signed alike
        answer = await client.post("/graphql/v1", content=BODY, headers=headers)
        assert (answer.status_code, answer.content) == (200, b'{"data":{"login":{"id":"ann"}}}')
    assert [item["account"] for item in asked] == ["ann"] * 3
    (listed,) = (await graphql(LIST)).json()["data"]["login"]["accessKeys"]
    assert listed["lastUsed"] is not None


@pytest.mark.parametrize("sign", [cavage, rfc_9421])
async def test_no_secret_and_no_signature_is_logged(
    client: httpx.AsyncClient,
    key: dict[str, str],
    sign: Callable[..., dict[str, str]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    headers = sign(key)
    await client.post("/graphql/v1", content=BODY, headers=headers)
    await client.post("/graphql/v1", content=BODY + b" ", headers={**headers, "Date": "yesterday"})
    logs = "".join(capfd.readouterr())
    assert "graphql_answered" in logs
    assert "signature_refused" in logs
    sent = headers.get("Signature") or headers["Authorization"]
    for hidden in (key["secret"], key["key"], sent, sent.split("signature=")[-1].strip('"')):
        assert hidden not in logs


@pytest.mark.parametrize("sign", [cavage, rfc_9421])
async def test_what_a_stranger_cannot_know_is_told_alike(
    client: httpx.AsyncClient, graphql: Graphql, key: dict[str, str], sign: Callable[..., dict[str, str]]
) -> None:
    other = base64.b64encode(b"x" * 33).decode()
    unknown = await client.post("/graphql/v1", content=BODY, headers=sign({**key, "key": "A" * 20}))
    odd = await client.post("/graphql/v1", content=BODY, headers=sign({**key, "key": "a'; --"}))
    wrong = await client.post("/graphql/v1", content=BODY, headers=sign({**key, "secret": other}))
    await graphql(UPDATE, {"key": key["key"], "enabled": False})
    disabled = await client.post("/graphql/v1", content=BODY, headers=sign(key))
    for answer in (unknown, odd, wrong, disabled):
        assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")
        assert answer.content == unknown.content
        assert "Signature" in answer.headers["www-authenticate"]
    await graphql(UPDATE, {"key": key["key"], "enabled": True})
    assert (await client.post("/graphql/v1", content=BODY, headers=sign(key))).status_code == 200
    await graphql(DELETE, {"key": key["key"]})
    deleted = await client.post("/graphql/v1", content=BODY, headers=sign(key))
    assert deleted.content == unknown.content


async def test_a_request_that_is_too_old_is_told_so(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    headers = cavage(key, at=time.time() - 3600)
    answer = await client.post("/graphql/v1", content=BODY, headers=headers)
    assert answer.status_code == 401
    assert "5 minutes" in answer.json()["errors"][0]["message"]


async def test_a_body_that_was_not_signed_is_refused_before_it_is_read(
    client: httpx.AsyncClient, key: dict[str, str], asked: list[dict[str, Any]]
) -> None:
    answer = await client.post("/graphql/v1", content=b"{no json", headers=rfc_9421(key))
    assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")
    assert "content-digest" in answer.json()["errors"][0]["message"]
    unread = await client.post("/graphql/v1", content=b"{no json", headers=cavage({**key, "key": "A" * 20}))
    assert unread.status_code == 401
    assert asked == []


async def test_token_and_signature_together_are_refused(
    client: httpx.AsyncClient, key: dict[str, str], issuer: IssuerServer
) -> None:
    bearer = f"Bearer {issuer.token('ann')}"
    both = await client.post("/graphql/v1", content=BODY, headers={**rfc_9421(key), "Authorization": bearer})
    pairs = [*cavage(key).items(), ("Authorization", bearer)]
    twice = await client.post("/graphql/v1", content=BODY, headers=pairs)
    for answer in (both, twice):
        assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")


async def test_at_most_two_keys_are_enabled_however_many_are_made_at_once(
    table: Any, graphql: Graphql
) -> None:
    del table
    answers = [answer.json() for answer in await asyncio.gather(*(graphql(CREATE) for _ in range(8)))]
    made = [answer["data"]["createAccessKey"]["key"] for answer in answers if answer["data"]]
    assert len(made) == 2
    assert [answer["errors"][0]["extensions"]["code"] for answer in answers if not answer["data"]] == [
        LIMIT
    ] * 6
    await graphql(UPDATE, {"key": made[0], "enabled": False})
    third = (await graphql(CREATE)).json()["data"]["createAccessKey"]["key"]
    refused = await graphql(UPDATE, {"key": made[0], "enabled": True})
    assert (refused.json()["data"], code(refused)) == ({"updateAccessKey": None}, LIMIT)
    again = await graphql(UPDATE, {"key": third, "enabled": True})
    assert again.content == f'{{"data":{{"updateAccessKey":{{"key":"{third}","enabled":true}}}}}}'.encode()
    await graphql(UPDATE, {"key": third, "enabled": False})
    racing = [graphql(UPDATE, {"key": name, "enabled": True}) for name in (made[0], third) * 3]
    await asyncio.gather(*racing)
    keys = (await graphql(LIST)).json()["data"]["login"]["accessKeys"]
    assert sum(item["enabled"] for item in keys) == 2


async def test_an_account_has_at_most_ten_keys(table: Any, graphql: Graphql) -> None:
    del table
    for _ in range(10):
        made = (await graphql(CREATE)).json()["data"]["createAccessKey"]["key"]
        await graphql(UPDATE, {"key": made, "enabled": False})
    assert code(await graphql(CREATE)) == LIMIT


@pytest.mark.parametrize("key_id", ["A" * 20, "", "\x00", "x'; --"])
async def test_keys_of_others_and_unknown_ones_are_told_alike(
    table: Any, graphql: Graphql, issuer: IssuerServer, key: dict[str, str], key_id: str
) -> None:
    as_bob = {"Authorization": f"Bearer {issuer.token('bob')}"}
    for unknown, headers in ((key["key"], as_bob), (key_id, None)):
        updated = await graphql(UPDATE, {"key": unknown, "enabled": False}, headers=headers)
        assert (updated.json()["data"], code(updated)) == ({"updateAccessKey": None}, "ACCESS_KEY_NOT_FOUND")
        deleted = await graphql(DELETE, {"key": unknown}, headers=headers)
        assert (deleted.json()["data"], code(deleted)) == ({"deleteAccessKey": False}, "ACCESS_KEY_NOT_FOUND")
    assert await table.fetchval("select enabled from access_key") is True
    assert (await graphql(LIST, headers=as_bob)).json()["data"]["login"]["accessKeys"] == []


async def test_use_is_recorded_at_most_once_a_minute(table: Any, key: dict[str, str]) -> None:
    del key
    statement = pg.load_queries("portal")["record_use_of_access_key"]
    key_id: str = await table.fetchval("select key_id from access_key")
    assert await table.execute(statement, key_id) == "UPDATE 1"
    assert await table.execute(statement, key_id) == "UPDATE 0"
    await table.execute("update access_key set last_used_at = now() - interval '61 seconds'")
    assert await table.execute(statement, key_id) == "UPDATE 1"


async def test_under_another_setting_a_key_is_void_and_said_to_be_unreadable(
    table: Any, key: dict[str, str], environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    del table
    pool = await pg.open_pool(environment["LATCHKEY_POSTGRES_DSN"], application="test")
    async with pool:
        same = AccessKeys(pool, SecretBox(environment["LATCHKEY_ACCESS_KEY_SECRET"]))
        found = await same.find(key["key"])
        assert found is not None
        assert (found.account_id, found.secret) == ("ann", base64.b64decode(key["secret"]))
        assert await AccessKeys(pool, SecretBox("another")).find(key["key"]) is None
    assert "access_key_unreadable" in "".join(capfd.readouterr())
