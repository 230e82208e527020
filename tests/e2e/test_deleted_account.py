"""The registry deletes an account: within seconds it is nobody's any more, wherever it was known."""

import asyncio
import base64
import hmac
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Self
from uuid import uuid4

import asyncpg
import httpx
import pytest

from contracts.directory import AccountSnapshot
from devstack import postgres, seed
from devstack.client import Account, RefusedError
from devstack.services import DATABASE
from devstack.world import World, until
from servicekit.auth import InternalTokens

DAN = next(account for account in seed.ACCOUNTS if account.account_id == "dan")
EMAIL = DAN.verified_emails[0]
ME = "{ login { id } }"
CREATE = "mutation { createAccessKey { key secret } }"
KEYS = "{ login { accessKeys { key } } }"
DELETE = "mutation($key: String!) { deleteAccessKey(key: $key) }"
ALIAS = 'mutation($id: String!) { setDeviceAlias(deviceId: $id, alias: "mine") }'
PREFERENCES: dict[str, Any] = {"language": "de", "time_zone": None, "quiet_hours": None, "wanted": {}}


@dataclass
class Keeper:
    """Dan, with a browser that is signed in and a key."""

    browser: httpx.AsyncClient
    key: dict[str, str]
    bearer: Account

    @classmethod
    async def come(cls, world: World, browser: httpx.AsyncClient) -> Self:
        bearer = await world.account(EMAIL)
        for key in (await bearer.ask(KEYS))["login"]["accessKeys"]:
            await bearer.ask(DELETE, key=key["key"])
        key = (await bearer.ask(CREATE))["createAccessKey"]
        assert (await sign_in(browser)).headers["location"] == "/"
        return cls(browser, key, bearer)

    async def signed(self) -> httpx.Response:
        """A request that is signed with the key."""
        date = formatdate(time.time(), usegmt=True)
        host = self.browser.base_url.netloc.decode()
        base = (
            f"(request-target): post /graphql/v1\nhost: {host}\ndate: {date}\ncontent-type: application/json"
        )
        mac = hmac.digest(base64.b64decode(self.key["secret"]), base.encode(), "sha256")
        signature = base64.b64encode(mac).decode()
        return await self.browser.post(
            "/graphql/v1",
            json={"query": ME},
            headers={
                "Authorization": f'Signature keyId="{self.key["key"]}",algorithm="hmac-sha256",'
                f'headers="(request-target) host date content-type",signature="{signature}"',
                "Date": date,
                "Content-Type": "application/json",
            },
        )

    async def page(self) -> httpx.Response:
        """The app's page, as a browser asks for it."""
        return await self.browser.get("/account", headers={"Accept": "text/html"})


async def sign_in(browser: httpx.AsyncClient) -> httpx.Response:
    """Go through the issuer's pages as Dan; the callback's answer."""
    begun = await browser.get("/auth/login")
    address, _, _ = begun.headers["location"].partition("?")
    async with httpx.AsyncClient(trust_env=False) as issuer:
        query = httpx.URL(begun.headers["location"]).params
        chosen = await issuer.post(address, data={**query, "account": "dan"})
    return await browser.get(chosen.headers["location"])


def internal(world: World, audience: str) -> dict[str, str]:
    """What the portal would show another service for Dan."""
    tokens = InternalTokens(world.state.load_secrets().internal_key, "portal")
    return {"Authorization": f"Bearer {tokens.mint(audience=audience, account_id='dan')}"}


@pytest.fixture
async def browser(world: World) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.status.url("portal"), timeout=20, trust_env=False) as browser:
        yield browser


@pytest.fixture
async def dan(world: World, browser: httpx.AsyncClient) -> AsyncGenerator[Keeper]:
    """He is there again afterwards, for other tests."""
    yield await Keeper.come(world, browser)
    await world.add_account(DAN)
    await until(lambda: welcome(world))


async def welcome(world: World) -> bool:
    """Whether a token of Dan's is taken, and who he is is known."""
    try:
        return (await (await world.account(EMAIL)).ask("{ login { email } }"))["login"]["email"] == EMAIL
    except RefusedError:
        return False


async def delete(world: World) -> None:
    await world.producer.send("directory.accounts", "dan", None)


async def kept_of(world: World) -> list[str]:
    """Tables of portal and notifier with a row that is Dan's; what became of shares names him for ever."""
    port = int(world.status.addresses["postgres"].rpartition(":")[2])
    cluster = postgres.Cluster(port, world.state.load_secrets().postgres)
    connection = await asyncpg.connect(cluster.dsn(DATABASE))
    try:
        tables = await connection.fetch(
            "select schemaname, tablename from pg_tables where schemaname in ('portal', 'notifier')"
            " and tablename not in ('deleted_account', 'invitation', 'first_use')"
        )
        return [
            f"{table['schemaname']}.{table['tablename']}"
            for table in tables
            if await connection.fetchval(
                f'select exists (select from "{table["schemaname"]}"."{table["tablename"]}" as t'
                " where to_jsonb(t) ->> 'account_id' = 'dan' or to_jsonb(t) ->> 'reader' = 'account dan')"
            )
        ]
    finally:
        await connection.close()


async def test_its_sessions_its_keys_and_its_stream_end(world: World, dan: Keeper) -> None:
    assert (await dan.page()).status_code == 200
    assert (await dan.signed()).json()["data"]["login"]["id"] == "dan"
    said: list[str] = []
    async with dan.browser.stream("GET", "/changes/v1") as stream:

        async def follow() -> None:
            async for line in stream.aiter_lines():
                said.append(line)

        following = asyncio.create_task(follow())
        await until(lambda: asyncio.sleep(0, any("ready" in line for line in said)))
        await delete(world)
        await asyncio.wait_for(following, 10)
    assert "event: signed_out" in said

    async def ended() -> bool:
        return (await dan.page()).status_code == 303 and (await dan.signed()).status_code == 401

    await until(ended, 10)
    unknown = Keeper(dan.browser, {**dan.key, "key": "A" * 20}, dan.bearer)
    assert (await dan.signed()).json() == (await unknown.signed()).json()


async def test_its_bearer_tokens_are_refused_everywhere(world: World, dan: Keeper) -> None:
    """Those of the issuer at the portal, and those between services that name it."""
    await dan.bearer.ask(ME)
    asks = {
        "permission-reader": ("permission-projector", "/v1/history"),
        "notifier": ("notifier", "/v1/preferences"),
    }
    await delete(world)

    async def refused() -> bool:
        try:
            await dan.bearer.ask(ME)
        except RefusedError as error:
            return error.code == "UNAUTHENTICATED"
        return False

    await until(refused, 15)
    async with httpx.AsyncClient(trust_env=False) as client:
        for service, (audience, path) in asks.items():
            address = world.status.url(service) + path

            async def status(address: str = address, audience: str = audience) -> bool:
                return (await client.get(address, headers=internal(world, audience))).status_code == 403

            await until(status, 15)


async def test_nothing_is_kept_of_it(world: World, dan: Keeper) -> None:
    device = await world.device()
    _, taker = await world.shared(device, email=EMAIL)
    await taker.ask(ALIAS, id=device)
    async with httpx.AsyncClient(trust_env=False) as client:
        address = world.status.url("notifier")
        headers = internal(world, "notifier")
        await client.put(f"{address}/v1/preferences", json=PREFERENCES, headers=headers)
        push = {"fcm_token": f"token-{uuid4().hex}"}
        await client.post(f"{address}/v1/push-subscriptions", json=push, headers=headers)
    assert {"portal.session", "portal.access_key", "portal.device_alias", "notifier.account_setting"} <= set(
        await kept_of(world)
    )
    await delete(world)

    async def gone() -> bool:
        return not await kept_of(world)

    await until(gone, 10)


async def test_nobody_signs_in_as_it_until_the_registry_has_it_again(world: World, dan: Keeper) -> None:
    await delete(world)

    async def ended() -> bool:
        return (await dan.page()).status_code == 303

    await until(ended, 10)
    refused = await sign_in(dan.browser)
    assert refused.status_code == 403
    assert "This account was deleted" in refused.text
    assert (await dan.page()).status_code == 303

    await world.add_account(DAN)

    async def back() -> bool:
        return (await sign_in(dan.browser)).status_code == 303

    await until(back, 10)
    assert (await dan.page()).status_code == 200
    assert (await dan.signed()).status_code == 401, "the keys of before are gone"
    key = (await dan.bearer.ask(CREATE))["createAccessKey"]
    assert (await Keeper(dan.browser, key, dan.bearer).signed()).status_code == 200


async def test_its_own_devices_are_closed_to_it(
    world: World, browser: httpx.AsyncClient, dan: Keeper
) -> None:
    """Also while their registry still names it as the owner, and also what is open."""
    device = await world.device(owner="dan")
    open_since = await world.open(dan.bearer, f"{device}.1")
    await delete(world)
    await open_since.until_closed(15)


async def test_a_deletion_that_was_undone_at_once_has_ended_what_was(world: World, dan: Keeper) -> None:
    await delete(world)
    await world.add_account(AccountSnapshot(account_id="dan", name="Another Dan", verified_emails=(EMAIL,)))

    async def ended() -> bool:
        return (await dan.page()).status_code == 303 and (await dan.signed()).status_code == 401

    await until(ended, 10)


async def test_an_invitation_of_a_deleted_account_leads_nowhere(world: World, dan: Keeper) -> None:
    device = await world.device(owner="dan")
    await dan.bearer.ask(
        "mutation($id: [String!], $to: [String!]!) { share(deviceIds: $id, email: $to) }",
        id=[device],
        to=[seed.RECIPIENT_EMAIL],
    )
    bob = await world.account(seed.RECIPIENT_EMAIL)
    bob.position = dan.bearer.position
    invitation: Any = await until(lambda: bob.invitation(device))
    await delete(world)

    async def refused() -> bool:
        return await bob.invitation(device) is None

    await until(refused, 10)
    with pytest.raises(RefusedError):
        await bob.ask(
            "mutation($device: String!, $share: String!, $version: Int!) {"
            " acceptInvitation(deviceId: $device, shareId: $share, invitationVersion: $version) }",
            device=device, share=invitation["id"], version=invitation["invitationVersion"],
        )  # fmt: skip
