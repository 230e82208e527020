"""The demo's upstream registry: it owns accounts and devices and publishes whole snapshots of them.

Its state is one JSON file. A device that was deleted stays in it as null, so that its deletion is published
again at every start, like everything else: whatever a crash left unpublished is made good then.
"""

import asyncio
import hmac
from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

import httpx
import typer
from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel, Field

from contracts.base import AccountId, Id
from contracts.codec import encode, envelope
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.topics import DIRECTORY_ACCOUNTS, DIRECTORY_DEVICES
from devstack import seed
from devstack.demo_files import replace_file
from devstack.demo_http import demo_app, http_url, listen, port_of, serving, until_stopped
from servicekit.auth import bearer_token
from servicekit.http import ApiError
from servicekit.kafka import KafkaError, Producer
from servicekit.logging import configure

_SOURCE = "registry"


class _State(BaseModel):
    """What the file holds; a null device was deleted."""

    accounts: dict[str, AccountSnapshot]
    devices: dict[str, DeviceSnapshot | None]


class _Rename(BaseModel):
    """Another name for a device, and who must own it for that."""

    name: str = Field(min_length=1, max_length=200)
    owner_account_id: AccountId


@dataclass(frozen=True, slots=True)
class _Publisher:
    """Writes snapshots to the directory topics and waits for the acknowledgement."""

    producer: Producer
    topic_prefix: str

    async def account(self, account: AccountSnapshot) -> None:
        await self._send(DIRECTORY_ACCOUNTS.name, account.account_id, account)

    async def device(self, device_id: str, device: DeviceSnapshot | None) -> None:
        await self._send(DIRECTORY_DEVICES.name, device_id, device)

    async def _send(self, topic: str, key: str, data: AccountSnapshot | DeviceSnapshot | None) -> None:
        value = (
            None
            if data is None
            else encode(envelope(data, source=_SOURCE, subject=key, time=datetime.now(UTC)))
        )
        await self.producer.send(self.topic_prefix + topic, key, value)


class Registry:
    """A running registry; made by `start`."""

    def __init__(self, url: str, path: Path, state: _State, publisher: _Publisher) -> None:
        self.url = url
        self._path, self._state, self._publisher = path, state, publisher
        self._changing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        *,
        kafka_bootstrap: str,
        directory: Path,
        targets: seed.Targets,
        token: str | None,
        topic_prefix: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        accounts: Sequence[AccountSnapshot] = seed.ACCOUNTS,
        names: Collection[str] = (),
    ) -> AsyncGenerator[Self]:
        """Publish everything, then serve while the block runs; port 0 takes a free one.

        A new registry has the demo's accounts and devices; in one that is there, the demo's own services are
        led to ``targets`` anew. ``token`` allows changes; without one all are refused. Others may ask it by
        one of ``names``.
        """
        path = directory / "registry.json"
        state = _load(path, accounts, targets)
        sock = listen(host, port)
        async with Producer(kafka_bootstrap, _SOURCE) as producer:
            publisher = _Publisher(producer, topic_prefix)
            registry = cls(http_url(host, port_of(sock)), path, state, publisher)
            await registry._publish_all()
            async with serving(_app(registry, token, names), sock):
                yield registry

    def accounts(self) -> list[AccountSnapshot]:
        """All accounts."""
        return list(self._state.accounts.values())

    def devices(self) -> list[DeviceSnapshot]:
        """All devices that were not deleted."""
        return [device for device in self._state.devices.values() if device is not None]

    async def put_account(self, account: AccountSnapshot) -> None:
        """Add or replace an account.

        Raises:
            ApiError: ``ADDRESS_TAKEN``, or ``UNAVAILABLE`` when it could not be published.
        """
        wanted = set(account.verified_emails)
        async with self._changing:
            for other in self.accounts():
                if other.account_id != account.account_id and wanted & set(other.verified_emails):
                    raise ApiError(
                        "ADDRESS_TAKEN", 409, "Another account has verified one of these addresses."
                    )
            state = self._state.model_copy(
                update={"accounts": {**self._state.accounts, account.account_id: account}}
            )
            self._keep(state)
            await _published(self._publisher.account(account))

    async def put_device(self, device: DeviceSnapshot) -> None:
        """Add or replace a device.

        Raises:
            ApiError: ``ACCOUNT_NOT_FOUND``, ``SERVICE_ID_TAKEN``, or ``UNAVAILABLE`` when it could not be
                published.
        """
        async with self._changing:
            if device.owner_account_id not in self._state.accounts:
                raise ApiError("ACCOUNT_NOT_FOUND", 422, "The owner is no account of this registry.")
            self._check_ids(device)
            await self._change_device(device.device_id, device)

    async def rename_device(self, device_id: str, owner_account_id: str, name: str) -> DeviceSnapshot:
        """Give a device another name, when this account owns it still.

        Raises:
            ApiError: ``DEVICE_NOT_FOUND``, or ``UNAVAILABLE`` when it could not be published.
        """
        async with self._changing:
            device = self._state.devices.get(device_id)
            if device is None or device.owner_account_id != owner_account_id:
                raise ApiError("DEVICE_NOT_FOUND", 404, "There is no such device of this owner.")
            renamed = device.model_copy(update={"name": name})
            await self._change_device(device_id, renamed)
            return renamed

    async def delete_device(self, device_id: str) -> None:
        """Delete a device.

        Raises:
            ApiError: ``DEVICE_NOT_FOUND``, or ``UNAVAILABLE`` when it could not be published.
        """
        async with self._changing:
            if device_id not in self._state.devices:
                raise ApiError("DEVICE_NOT_FOUND", 404, "There is no such device.")
            await self._change_device(device_id, None)

    def _check_ids(self, device: DeviceSnapshot) -> None:
        """Ids of devices and services are one name space: either may stand for the other in a command."""
        own = [service.service_id for service in device.services]
        taken = {
            name
            for other in self.devices()
            if other.device_id != device.device_id
            for name in (other.device_id, *(service.service_id for service in other.services))
        }
        if len({device.device_id, *own}) <= len(own) or taken & {device.device_id, *own}:
            raise ApiError("SERVICE_ID_TAKEN", 409, "An id of this device or its services is in use already.")

    async def _change_device(self, device_id: str, device: DeviceSnapshot | None) -> None:
        devices = {**self._state.devices, device_id: device}
        self._keep(self._state.model_copy(update={"devices": devices}))
        await _published(self._publisher.device(device_id, device))

    def _keep(self, state: _State) -> None:
        """Replace the file, then the state. Before publishing: a start publishes what is kept."""
        replace_file(self._path, state.model_dump_json(indent=2).encode())
        self._state = state

    async def _publish_all(self) -> None:
        self._keep(self._state)
        await asyncio.gather(
            *(self._publisher.account(account) for account in self.accounts()),
            *(self._publisher.device(*item) for item in self._state.devices.items()),
        )


async def _published(sending: Awaitable[None]) -> None:
    try:
        await sending
    except KafkaError:
        raise ApiError(
            "UNAVAILABLE",
            503,
            "The change is kept and will be published at the next start, or when this request is repeated.",
            headers={"Retry-After": "2"},
        ) from None


def _load(path: Path, accounts: Sequence[AccountSnapshot], targets: seed.Targets) -> _State:
    fresh = seed.devices(targets)
    if not path.exists():
        return _State(
            accounts={account.account_id: account for account in accounts},
            devices={device.device_id: device for device in fresh},
        )
    leads_to = {service.service_id: service.target for device in fresh for service in device.services}
    state = _State.model_validate_json(path.read_text())
    for device_id, device in state.devices.items():
        if device is not None:
            services = tuple(
                service.model_copy(update={"target": leads_to.get(service.service_id, service.target)})
                for service in device.services
            )
            state.devices[device_id] = device.model_copy(update={"services": services})
    return state


def _app(registry: Registry, token: str | None, names: Collection[str]) -> FastAPI:
    app = demo_app("registry", names=names)

    def may_change(request: Request) -> None:
        given = bearer_token(request)
        if token is None or not hmac.compare_digest(given.encode(), token.encode()):
            raise ApiError("FORBIDDEN", 403, "This token does not allow changes to the registry.")

    changes = [Depends(may_change)]

    @app.get("/devices")
    async def list_devices() -> dict[str, Any]:
        """All devices."""
        return {"devices": registry.devices()}

    @app.put("/devices/{device_id}", dependencies=changes)
    async def put_device(device_id: Id, device: DeviceSnapshot) -> DeviceSnapshot:
        """Add or replace a device."""
        _same_id(device_id, device.device_id)
        await registry.put_device(device)
        return device

    @app.patch("/devices/{device_id}", dependencies=changes)
    async def rename_device(device_id: Id, change: _Rename) -> DeviceSnapshot:
        """Give a device another name, for its owner."""
        return await registry.rename_device(device_id, change.owner_account_id, change.name)

    @app.delete("/devices/{device_id}", dependencies=changes, status_code=204)
    async def delete_device(device_id: Id) -> Response:
        """Delete a device."""
        await registry.delete_device(device_id)
        return Response(status_code=204)

    @app.get("/accounts")
    async def list_accounts() -> dict[str, Any]:
        """All accounts."""
        return {"accounts": registry.accounts()}

    @app.put("/accounts/{account_id}", dependencies=changes)
    async def put_account(account_id: str, account: AccountSnapshot) -> AccountSnapshot:
        """Add or replace an account."""
        _same_id(account_id, account.account_id)
        await registry.put_account(account)
        return account

    return app


def _same_id(path: str, body: str) -> None:
    if path != body:
        raise ApiError("INVALID_REQUEST", 422, "The id in the address and the id in the body differ.")


async def fetch_targets(url: str) -> seed.Targets:
    """Where the running demo services listen."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        answer = await client.get(f"{url}/targets")
        answer.raise_for_status()
        return seed.Targets(**answer.json())


@asynccontextmanager
async def _start_with(targets_url: str, **settings: Any) -> AsyncGenerator[Registry]:
    async with Registry.start(targets=await fetch_targets(targets_url), **settings) as registry:
        yield registry


def main(
    *,
    directory: Annotated[Path, typer.Option(help="Where accounts and devices are kept.")],
    kafka_bootstrap: Annotated[str, typer.Option(envvar="LATCHKEY_KAFKA_BOOTSTRAP", help="Brokers.")],
    targets_url: Annotated[str, typer.Option(envvar="LATCHKEY_TARGETS_URL", help="The demo services.")],
    topic_prefix: Annotated[str, typer.Option(envvar="LATCHKEY_TOPIC_PREFIX", help="Before topics.")] = "",
    token: Annotated[
        str | None, typer.Option(envvar="LATCHKEY_REGISTRY_TOKEN", help="Bearer token that allows changes.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    name: Annotated[list[str] | None, typer.Option(help="A host name by which others ask it.")] = None,
) -> None:
    """Run the registry with the demo's accounts and devices until SIGTERM or SIGINT."""
    configure(_SOURCE)
    registry = _start_with(
        targets_url,
        kafka_bootstrap=kafka_bootstrap,
        directory=directory,
        token=token or None,
        topic_prefix=topic_prefix,
        host=host,
        port=port,
        names=name or (),
    )
    asyncio.run(until_stopped(registry))
