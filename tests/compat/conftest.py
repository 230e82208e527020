"""One whole stack, real processes, with an access key for each of two people."""

import base64
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from http_message_signatures._algorithms import HMAC_SHA256
from requests_http_signature import HTTPSignatureAuth
from rich.console import Console

from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from devstack import seed
from devstack.client import Account
from devstack.jars import cache_directory, fetch, missing
from devstack.registry import fetch_targets
from devstack.stack import running, start_in_background, stop_running
from devstack.state import StateDirectory
from devstack.world import World, until
from servicekit.kafka import Producer

DEVICE = "80:00:00:00:12:34:56:78"
SERVICES = ("80:00:00:00:12:34:56:79", "80:00:00:00:12:34:56:7A")
LEAVER = "YourEmail@example.com"
HERE = Path(__file__).parent

Send = Callable[[str, bytes], tuple[int, bytes]]
"""Sends a body as ``owner`` or ``recipient``; returns status and answer."""


@dataclass(frozen=True)
class Key:
    """An access key as its owner keeps it: ``file`` is like ``~/.remoteit/credentials``."""

    key_id: str
    secret: str
    file: Path


@pytest.fixture(scope="session")
def stack_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDirectory]:
    """A fresh stack of the session's own."""
    if missing(cache_directory()):
        fetch()
    state = StateDirectory(tmp_path_factory.mktemp("compat") / "state")
    start_in_background(state, [], tied=True, console=Console(quiet=True))
    yield state
    stop_running(state)


@pytest.fixture(scope="session")
async def world(stack_state: StateDirectory) -> AsyncIterator[World]:
    """The stack, with the device that printed documents name, and a recipient with the address they name."""
    status = running(stack_state)
    async with (
        httpx.AsyncClient(base_url=status.url("portal"), timeout=30, trust_env=False) as portal,
        httpx.AsyncClient(base_url=status.url("mailbox"), timeout=30, trust_env=False) as mailbox,
        Producer(status.addresses["kafka"], "compat") as producer,
    ):
        world = World(stack_state, portal, mailbox, producer, await fetch_targets(status.url("targets")))
        target = Target(host=world.targets.host, port=world.targets.echo_port)
        await world.add_device(
            DeviceSnapshot(
                device_id=DEVICE,
                owner_account_id="ann",
                name="Raspberry Pi",
                kind="computer",
                services=tuple(
                    Service(service_id=name, name=f"Echo {name[-2:]}", protocol="tcp", target=target)
                    for name in SERVICES
                ),
            )
        )
        emails = (seed.RECIPIENT_EMAIL, LEAVER)
        await world.add_account(AccountSnapshot(account_id="bob", name="Bob Rossi", verified_emails=emails))
        yield world


@pytest.fixture(scope="session")
async def keys(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    """A key of the owner and one of the recipient."""
    made: dict[str, Key] = {}
    for who, email in (("owner", seed.OWNER_EMAIL), ("recipient", seed.RECIPIENT_EMAIL)):
        account = await world.account(email)
        answer = (await account.ask("mutation { createAccessKey { key secret } }"))["createAccessKey"]
        file = tmp_path_factory.mktemp(who) / "credentials"
        file.write_text(
            f"[DEFAULT]\nR3_ACCESS_KEY_ID={answer['key']}\nR3_SECRET_ACCESS_KEY={answer['secret']}\n"
        )
        made[who] = Key(answer["key"], answer["secret"], file)
    return made


@pytest.fixture(params=["openssl and curl", "requests-http-signature"])
def send(request: pytest.FixtureRequest, world: World, keys: dict[str, Key]) -> Send:
    """Each of the two clients that users of remote.it have."""
    address = world.status.url("portal")

    def by_shell(who: str, body: bytes) -> tuple[int, bytes]:
        done = subprocess.run(
            [HERE / "clients/signed.sh", address, keys[who].file], input=body, capture_output=True, check=True
        )
        answer, _, status = done.stdout.rpartition(b"\n")
        return int(status), answer

    def by_library(who: str, body: bytes) -> tuple[int, bytes]:
        auth = HTTPSignatureAuth(
            key_id=keys[who].key_id,
            key=base64.b64decode(keys[who].secret),
            signature_algorithm=HMAC_SHA256,
        )
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Content-Type": "application/json"}
            answer = session.post(f"{address}/graphql/v1", data=body, headers=headers, auth=auth, timeout=30)
            return answer.status_code, answer.content

    return by_shell if request.param == "openssl and curl" else by_library


@pytest.fixture
async def shared(world: World) -> Account:
    """The device is shared with the recipient, who has accepted; returns him."""
    owner, recipient = await world.account(seed.OWNER_EMAIL), await world.account(seed.RECIPIENT_EMAIL)
    await owner.share(DEVICE, LEAVER, notify=False)
    recipient.position = owner.position

    async def invited_or_in() -> Any:
        listed = await recipient.ask(f'{{ login {{ device(id: "{DEVICE}") {{ id }} }} }}')
        return listed["login"]["device"] or await recipient.invitation(DEVICE)

    await until(invited_or_in)
    if await recipient.invitation(DEVICE):
        await recipient.accept(DEVICE)
        await invited_or_in()  # answered once all can see it: old clients say no position to wait for
    return recipient


@pytest.fixture
def body() -> Callable[..., bytes]:
    """A request's body: ``body(document, variables)``; variables that are None are not sent."""

    def make(document: str, variables: dict[str, Any] | None) -> bytes:
        sent = {"query": document, **({} if variables is None else {"variables": variables})}
        return json.dumps(sent).encode()

    return make
