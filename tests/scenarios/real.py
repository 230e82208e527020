"""A scenario on the real stack.

The deciding side runs in this process, because its clock is an argument: HTTP API, handlers, the inbox of the
directories and expiry, on a real database and a real broker. Relay, projector, read API, notifier and portal
are processes. One stack serves all scenarios; each has names of its own.
"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import uvicorn
from acting import (
    START,
    Known,
    Names,
    moment,
    plain_services,
    scope_of,
    shown,
    to_bulk,
    to_command,
)
from processes import Processes, running
from pure import holds
from scenario import (
    DeviceFacts,
    GraphQL,
    LimitsOf,
    Note,
    Private,
    Rule,
    Scan,
    Scenario,
    ShowCode,
    Step,
    Verdict,
)
from sides import Done, Happened, Snapshot, happened
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts import codec, topics
from contracts.contacts import canonical_address, display_address, is_phone
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from contracts.events import SHARE_EVENT_TYPES
from contracts.permissions import Permission, Terms
from devstack.issuer import IssuerServer
from devstack.process import free_port
from devstack.pytest_plugin import Database, InternalTokenMaker
from devstack.records import read_all
from devstack.smtp import Mailbox
from permission_projector.generation import ensure_live
from servicekit import pg
from servicekit.auth import InternalCallers
from servicekit.http import create_app
from servicekit.inbox import Inbox
from servicekit.kafka import Admin, Partition, Producer, Record
from share_command import http
from share_command.directory import Directory
from share_command.handlers import Expiry, Handlers, Limits
from share_command.outbox import Waker
from share_command.settings import Settings

_SECRET = "a-secret-for-tests-of-forty-characters-xx"
_FOLLOWED = (
    topics.SHARE_EVENTS,
    topics.DIRECTORY_DEVICES,
    topics.DIRECTORY_ACCOUNTS,
    topics.DIRECTORY_CONTACTS,
)
_SETTLE_SECONDS = 30.0

_BEHIND = """
with asked as (
    select topic, partition, next_offset
    from unnest($1::text[], $2::int[], $3::bigint[]) as asked (topic, partition, next_offset)
)
select
    (select count(*) from share_command.outbox)
    + (
        select count(*) from notifier.notice
        where route_at is not null
            and (template in ('invitation', 'invitation_changed') or code is distinct from 'FACTS_MISSING')
    )
    + (select count(*) from notifier.delivery where state = 'due')
    + (
        select count(*) from asked
        left join permissions.kafka_offset as done using (topic, partition)
        where coalesce(done.next_offset, 0) < asked.next_offset
    )
    + (
        select count(*) from asked
        left join notifier.kafka_offset as done using (topic, partition)
        where coalesce(done.next_offset, 0) < asked.next_offset
    )
    + (
        select count(*) from asked
        left join share_command.kafka_offset as done using (topic, partition)
        where coalesce(done.next_offset, 0) < asked.next_offset and asked.topic = any($4::text[])
    )
"""


@dataclass
class RealStack:
    """What all scenarios share."""

    pool: pg.Pool
    eye: "asyncpg.Connection[asyncpg.Record]"
    """Sees every schema; only looks."""
    admin: Admin
    producer: Producer
    mailbox: Mailbox
    tokens: InternalTokenMaker
    issuer: IssuerServer
    processes: Processes
    waker: Waker
    prefix: str
    bootstrap: str
    dsns: Database
    read_api: str = ""
    now: datetime = START
    app: ASGIApp | None = None
    """The HTTP API of the scenario that runs."""
    client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False, timeout=30))
    _portal: str = ""
    places: list[Partition] = field(default_factory=list[Partition])

    def clock(self) -> datetime:
        """The time by which share-command decides."""
        return self.now

    async def settle(self) -> None:
        """Wait until all that was decided has come to all who follow."""
        async with asyncio.timeout(_SETTLE_SECONDS):
            self.waker.wake()
            while await self.eye.fetchval("select count(*) from share_command.outbox"):  # noqa: ASYNC110 - the relay is a process
                await asyncio.sleep(0.005)
            while True:  # twice at least: what follows a directory appends events of its own
                ends = await self.admin.end_offsets(self.places)
                asked = [(place, end) for place, end in ends.items() if end]
                columns = (
                    [place.topic for place, _ in asked],
                    [place.number for place, _ in asked],
                    [end for _, end in asked],
                    [
                        self.prefix + topics.DIRECTORY_DEVICES.name,
                        self.prefix + topics.DIRECTORY_ACCOUNTS.name,
                    ],
                )
                while await self.eye.fetchval(_BEHIND, *columns):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
                if await self.admin.end_offsets(self.places) == ends:
                    return

    async def portal(self) -> str:
        """The portal's address; it is started when a scenario first asks for it."""
        if not self._portal:
            await pg.migrate(self.dsns.dsn("portal"), "portal")
            here = await self._listening()
            self._portal = await self.processes.ready(
                "portal", "serve",
                {
                    "postgres_dsn": self.dsns.dsn("portal"),
                    "internal_key": self.tokens.private_jwk,
                    "public_url": "http://127.0.0.1:8080",
                    "oidc_issuer": self.issuer.url,
                    "oidc_audience": self.issuer.audience,
                    "oidc_client_id": "latchkey-portal",
                    "oidc_client_secret": "a-secret-of-the-portal",
                    "access_key_secret": _SECRET,
                    "share_command_url": here,
                    "read_api_url": self.read_api,
                    "gateway_url": f"http://127.0.0.1:{free_port()}",
                    "notifier_url": f"http://127.0.0.1:{free_port()}",
                },
            )  # fmt: skip
        return self._portal

    async def _listening(self) -> str:
        """The HTTP API on a port; whichever scenario's it is."""

        async def current(scope: Scope, receive: Receive, send: Send) -> None:
            assert self.app is not None
            await self.app(scope, receive, send)

        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(current, lifespan="off", log_config=None))
        self._serving = server, asyncio.create_task(server.serve([listener]))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def close(self) -> None:
        """Let go of what was opened on the way."""
        await self.client.aclose()
        if self._portal:
            server, task = self._serving
            server.should_exit = True
            await task

    def everything_published(self) -> list[Record]:
        """All records on all topics of this stack; blocks."""
        names = [self.prefix + topic.name for topic in topics.TOPICS]
        return [record for name in names for record in read_all(self.bootstrap, name)]


@asynccontextmanager
async def real_stack(  # noqa: PLR0917 - the fixtures it is made of
    database: Database, bootstrap: str, prefix: str, mailbox: Mailbox, tokens: InternalTokenMaker,
    issuer: IssuerServer, directory: Path,
) -> AsyncGenerator[RealStack]:  # fmt: skip
    """The stack, ready."""
    admin = Admin(bootstrap)
    await admin.provision([(prefix + topic.name, topic.partitions, topic.config) for topic in topics.TOPICS])
    for package in ("share_command", "permission_projector", "notifier"):
        await pg.migrate(database.dsn(package), package)
    await ensure_live(database.dsn("permission_projector"))
    common = {"LATCHKEY_KAFKA_BOOTSTRAP": bootstrap, "LATCHKEY_TOPIC_PREFIX": prefix}
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(running(directory, common))
        producer = await stack.enter_async_context(Producer(bootstrap, "scenarios"))
        pool = await pg.open_pool(database.dsn("share_command"), application="scenarios")
        stack.callback(pool.terminate)
        eye = await asyncpg.connect(database.dsn())
        stack.push_async_callback(eye.close)
        waker = Waker(pool)
        real = RealStack(
            pool, eye, admin, producer, mailbox, tokens, issuer, processes, waker, prefix, bootstrap,
            database,
            places=await admin.partitions([prefix + topic.name for topic in _FOLLOWED]),
        )  # fmt: skip
        stack.push_async_callback(real.close)
        projector = {"postgres_dsn": database.dsn("permission_projector")}
        _, real.read_api, *_ = await asyncio.gather(
            processes.ready("share_command", "relay", {"postgres_dsn": database.dsn("share_command")}),
            processes.ready(
                "permission_projector", "serve", {**projector, "internal_keys": tokens.public_jwks}
            ),
            processes.ready("permission_projector", "project", projector),
            processes.ready("notifier", "serve", _notifier(database, mailbox, tokens)),
        )

        async def put_aside(_record: Record, code: str, message: str) -> None:
            raise AssertionError(f"{code}: {message}")

        follower = Directory(prefix, put_aside, committed=waker.wake, clock=real.clock)
        inbox = Inbox(
            bootstrap=bootstrap,
            group=f"{prefix}share-command-directory",
            topics=follower.topics,
            pool=pool,
            handle=follower.apply,
            admin=admin,
        )
        tasks = [asyncio.create_task(inbox.run()), asyncio.create_task(waker.run())]
        try:
            yield real
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _notifier(database: Database, mailbox: Mailbox, tokens: InternalTokenMaker) -> dict[str, object]:
    return {
        "postgres_dsn": database.dsn("notifier"),
        "public_url": "http://127.0.0.1:8080",
        "link_secret": _SECRET,
        "mail_from": "Latchkey <no-reply@example.com>",
        "smtp_host": mailbox.smtp_host,
        "smtp_port": mailbox.smtp_port,
        "smtp_tls": "none",
        "delivery_poll_seconds": 0.1,
        "facts_retry_seconds": 0.05,
        "digest_seconds": 0,  # a scenario tells what each event is told as
        "internal_keys": tokens.public_jwks,
    }


class RealSide:
    """A `sides.Side`; only one at a time."""

    def __init__(self, stack: RealStack, names: Names, limits: LimitsOf) -> None:
        self._stack, self._names = stack, names
        stack.now = START
        handlers = Handlers(
            stack.pool,
            stack.waker.wake,
            clock=stack.clock,
            limits=Limits(limits.shares_per_device, limits.shares_per_owner),
        )
        settings = Settings(  # pyright: ignore[reportCallIssue] - the others have defaults
            http_port=1,
            postgres_dsn=stack.dsns.dsn("share_command"),  # pyright: ignore[reportArgumentType] - validated
            kafka_bootstrap=stack.bootstrap,
            internal_keys=stack.tokens.public_jwks,
            link_secret=_SECRET,  # pyright: ignore[reportArgumentType] - validated
            commands_per_minute=1_000_000,
        )
        web = create_app("share-command", {})
        callers = InternalCallers(stack.tokens.public_jwks, "share-command")
        http.add_routes(web, handlers=handlers, caller=callers, settings=settings)
        stack.app = web
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(web), base_url="http://share-command", trust_env=False
        )
        self._codes: dict[str, str] = {}
        self._accounts: dict[str, list[str]] = {}
        self._services: dict[str, str] = {}
        self._devices: list[str] = []
        self._seen: dict[str, int] = {}
        self._contacts: dict[str, UUID] = {}

    async def begin(self, accounts: Mapping[str, Sequence[str]], devices: Mapping[str, DeviceFacts]) -> None:
        for account, addresses in accounts.items():
            await self._set_account(account, addresses)
        for device, facts in devices.items():
            await self._set_device(device, facts)
        await self._settle()

    async def act(self, step: Step) -> Done:
        await self._mark()
        done = await self._do(step)
        await self._settle()
        return done

    async def wait(self, seconds: timedelta) -> None:
        await self._mark()
        self._stack.now += seconds
        looking = [
            Expiry(self._stack.pool, self._stack.waker.wake, self._stack.clock).end_overdue()
            for _ in range(2)
        ]
        await asyncio.gather(*looking)  # two processes look at once, and each end is one event
        await self._settle()

    async def _settle(self) -> None:
        await self._stack.settle()
        rows = await self._stack.eye.fetch("select contact_id, address from share_command.contact")
        self._contacts = {row["address"]: row["contact_id"] for row in rows}

    async def _mark(self) -> None:
        rows = await self._stack.eye.fetch(
            "select device_id, version from share_command.device_stream where device_id = any($1)",
            self._device_ids(),
        )
        self._seen = {row["device_id"]: row["version"] for row in rows}

    def _device_ids(self) -> list[str]:
        return [self._names.own(name) for name in self._devices]

    # acts ------------------------------------------------------------------------------------------------

    async def _do(self, step: Step) -> Done:
        if step.is_command:
            command = await self._command(step.order)
            body = command.model_dump(mode="json", exclude={"actor"}, exclude_none=True)
            answer = await self._ask("POST", f"commands/{type(command).__name__}", command.actor, body)
            return Done(refused=code_of(answer))
        if step.bulk is not None:
            return await self._bulk(step)
        if step.explain is not None:
            return await self._explain(step)
        if step.device is not None:
            await self._set_device(step.device.device, step.device.now)
        elif step.account is not None:
            await self._set_account(step.account.account, step.account.now)
        elif step.graphql is not None:
            await self._graphql(step.graphql)
        else:
            return await self._at_the_side(step)
        return Done()

    async def _command(self, order: Any) -> Any:
        looks: dict[tuple[str, str], Known | None] = {}
        wanted: list[tuple[str, str]] = []

        def note(device_id: str, address: str) -> Known | None:
            wanted.append((device_id, address))
            return looks.get((device_id, address))

        to_command(order, self._names, note, self._contacts.get)
        for device_id, address in wanted:
            looks[device_id, address] = await self._known(device_id, address)
        return to_command(order, self._names, note, self._contacts.get)

    async def _known(self, device_id: str, address: str) -> Known | None:
        row = await self._stack.eye.fetchrow(
            "select share_id, contact_id, version, invitation_version from share_command.share"
            " join share_command.contact using (contact_id) where device_id = $1 and address = $2",
            device_id, address,
        )  # fmt: skip
        return None if row is None else Known(*row)

    async def _ask(self, method: str, path: str, account_id: str, body: Any = None) -> httpx.Response:
        token = self._stack.tokens.token("share-command", account_id)
        return await self._client.request(
            method, f"/v1/{path}", json=body, headers={"Authorization": f"Bearer {token}"}
        )

    async def _bulk(self, step: Step) -> Done:
        assert step.bulk is not None
        order = to_bulk(step.bulk, self._names, self._contacts.get)
        written = self._names.recipients(step.bulk.to, self._contacts.get)
        body = order.model_dump(mode="json", exclude={"actor"}, exclude_none=True)
        answer = await self._ask("POST", "bulk-shares", order.actor, body)
        outcomes: dict[str, dict[str, str]] = {}
        for item in answer.json().get("items", ()):
            mine = outcomes.setdefault(self._names.file(item["device_id"]), {})
            mine[written[item["recipient"]]] = item.get("code") or item["outcome"]
        return Done(refused=code_of(answer), outcomes=outcomes)

    async def _explain(self, step: Step) -> Done:
        assert step.explain is not None
        asked = step.explain.order
        command = await self._command(asked)
        written = self._names.recipients(getattr(asked, "to", []), self._contacts.get)
        body = command.model_dump(mode="json", exclude={"actor"}, exclude_none=True)
        answer = await self._ask("POST", f"explanations/{type(command).__name__}", command.actor, body)
        assert answer.status_code == 200, answer.text
        explanation = answer.json()
        assert explanation["would_be_accepted"] == (explanation["code"] is None)
        would: dict[str, dict[str, Any]] = {}
        for item in explanation["items"]:
            mine = would.setdefault(self._names.file(item["device_id"]), {})
            mine[written.get(item["recipient"] or "", "-")] = {
                "outcome": item["code"] or item["outcome"],
                "state": item["state_after"],
                "permissions": plain_services(item["permissions_after"], self._names),
            }
        return Done(refused=explanation["code"], would=would)

    async def _at_the_side(self, step: Step) -> Done:
        names = self._names
        match step.rule or step.note or step.show_code or step.scan:
            case Rule() as rule:
                method = "PUT" if rule.always else "DELETE"
                path = f"always-accept/{names.own(rule.owner)}"
                return Done(refused=code_of(await self._ask(method, path, names.own(rule.by))))
            case Note() as note:
                body = {"recipient": names.address(note.address), "remark": note.remark}
                return Done(refused=code_of(await self._ask("POST", "contacts", names.own(note.by), body)))
            case ShowCode() as show:
                code = (await self._ask("POST", "contact-codes", names.own(show.by))).json()["code"]
                for addresses in self._accounts.values():
                    assert not [text for text in addresses if holds(code, text)], "an address in a code"
                self._codes[show.code] = code
            case Scan() as scan:
                body = {"code": self._codes[scan.code]}
                answer = await self._ask("POST", "contact-codes/scans", names.own(scan.by), body)
                if scan.finds is not None:
                    book = await self._book(scan.by)
                    assert shown(scan.finds) in book
                return Done(refused=code_of(answer))
            case _:
                pass
        return Done()

    async def _graphql(self, asked: GraphQL) -> None:
        query = asked.query
        for name in (*self._devices, *self._services):
            query = query.replace(f"{{{name}}}", self._names.own(name))
        for address in [text for texts in self._accounts.values() for text in texts]:
            query = query.replace(f"{{{self._names.file_address(address)}}}", display_address(address))
        answer = await self._stack.client.post(
            f"{await self._stack.portal()}/graphql/v1",
            json={"query": query},
            headers={"Authorization": f"Bearer {self._stack.issuer.token(self._names.own(asked.by))}"},
        )
        assert answer.status_code == 200, answer.text
        if asked.answer is not None:
            assert answer.text == asked.answer
            return
        refused = answer.json()
        assert refused.get("errors"), answer.text
        if asked.code is not None:
            assert [item["extensions"]["code"] for item in refused["errors"]] == [asked.code], answer.text
            assert refused["data"] == {"share": False}

    async def _set_device(self, device: str, facts: DeviceFacts | None) -> None:
        self._devices = list(dict.fromkeys([*self._devices, device]))
        own, names = self._names.own(device), self._names
        if facts is None:
            await self._publish(topics.DIRECTORY_DEVICES, own, None)
            return
        self._services.update(dict.fromkeys(facts.services, device))
        services = tuple(
            Service(
                service_id=names.own(name), name=name, protocol="tcp",
                target=Target(host="127.0.0.1", port=9), permissions=frozenset(permissions),
            )
            for name, permissions in facts.services.items()
        )  # fmt: skip
        snapshot = DeviceSnapshot(
            device_id=own,
            owner_account_id=names.own(facts.owner),
            name=device,
            kind="camera",
            services=services,
        )
        await self._publish(topics.DIRECTORY_DEVICES, own, snapshot)

    async def _set_account(self, account: str, addresses: Sequence[str] | None) -> None:
        own, names = self._names.own(account), self._names
        if addresses is None:
            await self._publish(topics.DIRECTORY_ACCOUNTS, own, None)
            return
        verified = [canonical_address(names.address(text)) for text in addresses]
        self._accounts[account] = verified
        snapshot = AccountSnapshot(
            account_id=own,
            name=account.title(),
            verified_emails=tuple(display_address(text) for text in verified if not is_phone(text)),
            verified_phones=tuple(display_address(text) for text in verified if is_phone(text)),
        )
        await self._publish(topics.DIRECTORY_ACCOUNTS, own, snapshot)

    async def _publish(
        self, topic: topics.Topic, key: str, snapshot: DeviceSnapshot | AccountSnapshot | None
    ) -> None:
        value = None
        if snapshot is not None:
            value = codec.encode(codec.envelope(snapshot, source="registry", time=self._stack.now))
        await self._stack.producer.send(self._stack.prefix + topic.name, key, value)

    # looks -----------------------------------------------------------------------------------------------

    async def events(self) -> list[Happened]:
        rows = await self._stack.eye.fetch(
            "select event.device_id, event.version, event.envelope, contact.address from share_command.event"
            " join share_command.share using (share_id)"
            " join share_command.contact on contact.contact_id = share.contact_id"
            " where event.device_id = any($1)",
            self._device_ids(),
        )  # fmt: skip
        found: list[Happened] = []
        for row in rows:
            if row["version"] <= self._seen.get(row["device_id"], 0):
                continue
            message, event = codec.decode_as(row["envelope"].encode(), SHARE_EVENT_TYPES)
            assert message.version == row["version"]
            device = self._names.file(event.device_id)
            address = self._names.file_address(row["address"])
            found.append(happened(device, row["version"], address, event, message.time))
        return sorted(found, key=lambda item: (item.device, item.version))

    async def snapshot(self) -> Snapshot:
        return Snapshot(
            states=await self._states(),
            access=await self._access(),
            notices=self._notices(),
            listed={name: await self._listed(name) for name in self._devices},
            books={name: await self._book(name) for name in self._accounts},
            messages=await self._messages(),
        )

    async def _states(self) -> dict[str, dict[str, str]]:
        """By the deciding side; what the projector has must be the same."""
        found: list[dict[str, dict[str, str]]] = []
        for schema in ("share_command", "permissions"):
            rows = await self._stack.eye.fetch(
                f"select device_id, address, state from {schema}.share"
                f" join {schema}.contact using (contact_id) where device_id = any($1)",
                self._device_ids(),
            )
            states: dict[str, dict[str, str]] = {name: {} for name in self._devices}
            for row in rows:
                address = self._names.file_address(row["address"])
                states[self._names.file(row["device_id"])][address] = row["state"]
            found.append(states)
        assert found[0] == found[1], "the read models differ from what was decided"
        return found[0]

    async def _access(self) -> dict[str, dict[str, list[str]]]:
        rows = await self._stack.eye.fetch(
            "select account, service, array_agg(permission order by permission) as permissions"
            " from unnest($1::text[]) as account, unnest($2::text[]) as service,"
            " unnest($3::text[]) as permission"
            " cross join lateral permissions_api.check_grant_v2(account, service, permission, $4) as answer"
            " where answer.allowed and answer.reason <> 'owner' group by account, service",
            [self._names.own(name) for name in self._accounts],
            [self._names.own(name) for name in self._services],
            [item.value for item in Permission],
            self._stack.now,
        )
        access: dict[str, dict[str, list[str]]] = {name: {} for name in self._accounts}
        for row in rows:
            mine = access[self._names.file(row["account"])]
            mine[self._names.file(row["service"])] = row["permissions"]
        return access

    def _notices(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for mail in self._stack.mailbox.messages():
            (recipient,) = mail.recipients
            if not recipient.partition("@")[0].endswith(self._names.tag):
                continue
            if " changed what is shared with you" in mail.subject:
                template = "invitation_changed"
            elif " wants to share " in mail.subject:
                template = "invitation"
            else:
                continue  # what else people are told is not what scenarios are about
            found.setdefault(self._names.file_address(recipient), []).append(template)
        return found

    async def _listed(self, device: str) -> dict[str, Any]:
        own = self._names.own(device)
        owner = await self._stack.eye.fetchval(
            "select owner_account_id from permissions.device where device_id = $1", own
        )
        if owner is None:
            return {}
        answer = await self._read(owner, f"devices/{own}")
        return {
            self._names.file_address(entry["email"] or entry["phone"]): {
                "state": entry["state"],
                **scope_of(Terms.model_validate(entry["terms"]).scope, self._names),
                "scripting": entry["terms"]["scripting"],
            }
            for entry in answer.json()["access"]
            if entry["state"] in {"requested", "active"}
        }

    async def _read(self, account_id: str, path: str) -> httpx.Response:
        token = self._stack.tokens.token("permission-projector", account_id)
        url = f"{self._stack.read_api}/v1/{path}"
        return await self._stack.client.get(url, headers={"Authorization": f"Bearer {token}"})

    async def _book(self, account: str) -> dict[str, str | None]:
        answer = await self._ask("GET", "contacts", self._names.own(account))
        return {
            self._names.file_address(item["address"]): item["remark"] for item in answer.json()["contacts"]
        }

    async def _messages(self) -> dict[str, dict[str, str]]:
        rows = await self._stack.eye.fetch(
            "select share_id, device_id from share_command.share where device_id = any($1)",
            self._device_ids(),
        )
        devices = {str(row["share_id"]): self._names.file(row["device_id"]) for row in rows}
        found: dict[str, dict[str, str]] = {}
        for account in self._accounts:
            body = {"share_ids": list(devices)}
            answer = await self._ask("POST", "messages", self._names.own(account), body)
            words = answer.json()["messages"]
            if words:
                found[account] = {devices[share_id]: text for share_id, text in words.items()}
        return found

    async def verdict(self, verdict: Verdict) -> bool:
        return await self._stack.eye.fetchval(
            "select allowed from permissions_api.check_grant_v2($1, $2, $3, $4)",
            self._names.own(verdict.account), self._names.own(verdict.service), verdict.permission.value,
            moment(verdict, self._stack.now),
        )  # fmt: skip

    async def reveals(self, private: Private) -> list[str]:
        """In every topic, every table but the owner's book, every mail, and what the API tells all others."""
        found: list[str] = []
        for record in await asyncio.to_thread(self._stack.everything_published):
            if private.text.encode() in (record.value or b""):
                found.append(f"{record.topic}/{record.partition}/{record.offset}")
        tables = await self._stack.eye.fetch(
            "select table_schema, table_name from information_schema.tables"
            " where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')"
        )
        for schema, table in tables:
            rows = await self._stack.eye.fetchval(
                f'select count(*) from "{schema}"."{table}" as r where to_jsonb(r)::text like $1',
                f"%{private.text}%",
            )
            if rows and (schema, table) != ("share_command", "contact_book"):
                found.append(f"{schema}.{table}")
        found += [
            mail.subject for mail in self._stack.mailbox.messages() if private.text.encode() in mail.raw
        ]
        for account in self._accounts:
            if account != private.owner:
                found += [path for path, text in await self._answers(account) if private.text in text]
        return found

    async def _answers(self, account: str) -> list[tuple[str, str]]:
        """All that the APIs tell an account."""
        own = self._names.own(account)
        answers: list[tuple[str, str]] = []
        for path in READ_PATHS:
            for name in self._device_ids() if "{device_id}" in path else [""]:
                answer = await self._read(own, path.format(device_id=name))
                assert answer.status_code < 500, (path, answer.text)
                answers.append((path, answer.text))
        rows = await self._stack.eye.fetch(
            "select share_id from share_command.share where device_id = any($1)", self._device_ids()
        )
        shares = {"share_ids": [str(row["share_id"]) for row in rows]}
        asked: list[tuple[str, str, Any]] = [
            ("GET", "contacts", None),
            ("GET", "contacts?containing=marker", None),
            ("GET", "always-accept", None),
            ("POST", "messages", shares),
            *(("GET", f"shares?device_id={name}", None) for name in self._device_ids()),
        ]
        for method, path, body in asked:
            answers.append((path, (await self._ask(method, path, own, body)).text))
        return answers


def _read_paths() -> list[str]:
    """Every path of the read API that is answered at once, without what stands before all of them."""
    document = json.loads((Path(__file__).parents[2] / "docs/openapi/permission-projector.json").read_text())
    paths = [path.removeprefix("/v1/") for path in document["paths"] if path.startswith("/v1/")]
    assert len(paths) >= 9
    return [path for path in paths if path != "changes"] + [
        f"devices/{{device_id}}/access?at={datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "connections?open=true",
    ]


READ_PATHS = _read_paths()


def code_of(answer: httpx.Response) -> str | None:
    """The code of a refusal; raises AssertionError for an error of the server's."""
    assert answer.status_code < 500, answer.text
    return json.loads(answer.text)["error"]["code"] if answer.is_error else None


def needs_stack(scenario: Scenario) -> bool:
    """Whether the pure core can say nothing of it."""
    return scenario.only == "stack"
