"""What is told of it: events on Kafka, the log line of a decision, and nothing private in either."""

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from access_gateway.audit import Audit
from contracts.events import (
    ConnectionClosed,
    ConnectionCut,
    ConnectionOpened,
    ConnectionRefused,
    CutReason,
    GatewayStarted,
)
from contracts.permissions import Permission
from servicekit.telemetry import correlated

if TYPE_CHECKING:
    from conftest import Devices, Events, Gateways, World

pytestmark = pytest.mark.slow


async def test_every_connection_leaves_its_events(
    world: "World", devices: "Devices", gateways: "Gateways", events: "Events"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    answer = await gateway.post("ann", service, X_Correlation_Id="request-1")
    port = answer.json()["port"]

    reader, writer = await gateway.connect(port)
    writer.write(b"12345")
    writer.write_eof()
    assert await reader.read() == b"12345"
    writer.close()
    opened, closed = await events.take(2)
    assert isinstance(opened.data, ConnectionOpened)
    assert opened.data.model_dump(exclude={"connection_id", "share_id"}) == {
        "gateway_id": "gw-1",
        "account_id": "ann",
        "service_id": service,
        "device_id": "dev-1",
        "permission": Permission.CONNECT,
        "device_version": 1,
        "way": "port",
    }
    assert opened.data.share_id is not None
    assert isinstance(closed.data, ConnectionClosed)
    assert closed.data.connection_id == opened.data.connection_id
    assert (closed.data.bytes_to_device, closed.data.bytes_from_device) == (5, 5)
    assert 0 < closed.data.seconds < 60

    assert await gateway.turns_away(port, "127.0.0.9")
    (wrong,) = await events.take(1)
    assert isinstance(wrong.data, ConnectionRefused)
    assert wrong.data.reason == "WRONG_SOURCE"

    reader, writer = await gateway.connect(port)
    writer.write(b"123")
    assert await reader.readexactly(3) == b"123"
    await world.revoke("dev-1")
    again, cut = await events.take(2)
    assert isinstance(again.data, ConnectionOpened)
    assert isinstance(cut.data, ConnectionCut)
    assert cut.data.connection_id == again.data.connection_id != opened.data.connection_id
    assert cut.data.reason is CutReason.GRANT_ENDED
    assert (cut.data.bytes_to_device, cut.data.bytes_from_device) == (3, 3)
    writer.close()

    published = [opened, closed, wrong, again, cut]
    assert {each.correlationid for each in published} == {"request-1"}
    assert {each.subject for each in published} == {"dev-1"}
    assert events.keys == ["dev-1"] * 5
    (started,) = events.started
    assert isinstance(started.data, GatewayStarted)
    assert (started.data.gateway_id, started.time < opened.time) == ("gw-1", True)


async def test_refusals_of_what_is_not_granted_name_no_device(
    world: "World", devices: "Devices", gateways: "Gateways", events: "Events"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    for asked in (service, "no-such-service"):
        await gateway.post("ann", asked)
    refused = [each.data for each in await events.take(2)]
    assert all(isinstance(each, ConnectionRefused) and each.reason == "ACCESS_DENIED" for each in refused)
    assert all(isinstance(each, ConnectionRefused) and each.device_id is None for each in refused)
    assert events.keys == [None, None]


async def test_a_target_that_does_not_answer_is_told(
    world: "World", devices: "Devices", gateways: "Gateways", events: "Events"
) -> None:
    _, free = await devices.echo()
    await devices.close()
    service = await world.device("dev-1", ("127.0.0.1", free))
    gateway = await gateways.start()
    assert await gateway.turns_away((await gateway.open("owner", service))["port"], "127.0.0.1")
    (refused,) = await events.take(1)
    assert isinstance(refused.data, ConnectionRefused)
    assert (refused.data.reason, refused.data.device_id) == ("TARGET_UNREACHABLE", "dev-1")
    assert refused.data.device_version == 0


async def test_staleness_is_the_reason_of_its_cuts(
    world: "World", devices: "Devices", gateways: "Gateways", events: "Events"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start(max_staleness_seconds=3.0)
    _, writer = await gateway.connect((await gateway.open("owner", service))["port"])
    await events.take(1)
    world.beating = False
    (cut,) = await events.take(1)
    assert isinstance(cut.data, ConnectionCut)
    assert cut.data.reason is CutReason.STALE
    writer.close()
    assert (await gateway.post("owner", service)).status_code == 503
    (refused,) = await events.take(1)
    assert isinstance(refused.data, ConnectionRefused)
    assert (refused.data.reason, refused.data.device_version) == ("STALE", 0)
    assert refused.data.age_seconds is not None
    assert 3 <= refused.data.age_seconds < 60


async def test_a_decision_leaves_one_log_line_without_addresses(
    world: "World", devices: "Devices", gateways: "Gateways", capsys: pytest.CaptureFixture[str]
) -> None:
    host, target = await devices.echo()
    service = await world.device("dev-1", (host, target))
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    with capture_logs() as lines:
        opened = await gateway.open("ann", service)
        await gateway.post("bob", service)
    _, writer = await gateway.connect(opened["port"], "127.0.0.9")
    async with asyncio.timeout(30):
        while (written := capsys.readouterr().out).count("access_decided") < 1:  # noqa: ASYNC110 - output
            await asyncio.sleep(0.01)
    assert "127.0.0" not in written
    writer.close()
    allowed, denied = [each for each in lines if each["event"] == "access_decided"]
    age = allowed.pop("staleness_seconds")
    assert 0 <= age < 15
    share_id = allowed.pop("share_id")
    assert UUID(share_id)
    assert allowed == {
        "event": "access_decided",
        "log_level": "info",
        "connection_id": opened["connection_id"],
        "account_id": "ann",
        "service_id": service,
        "allowed": True,
        "code": "ALLOWED",
        "grant": "granted",
        "permission": "connect",
        "device_id": "dev-1",
        "device_version": 1,
    }
    del denied["connection_id"]
    assert denied == {
        "event": "access_decided",
        "log_level": "info",
        "account_id": "bob",
        "service_id": service,
        "allowed": False,
        "code": "ACCESS_DENIED",
        "grant": "no_grant",
        "permission": None,
        "device_id": None,
        "device_version": None,
        "share_id": None,
        "staleness_seconds": None,
    }
    text = json.dumps(lines, default=str)
    assert "127.0.0" not in text
    assert f":{target}" not in text


def refused(number: int) -> ConnectionRefused:
    return ConnectionRefused(
        connection_id=UUID(int=number),
        gateway_id="gw-1",
        account_id="ann",
        service_id="svc",
        permission=Permission.CONNECT,
        reason="ACCESS_DENIED",
    )


async def test_while_the_broker_is_away_the_newest_events_are_kept(
    kafka_bootstrap: str, topic_prefix: str, events: "Events"
) -> None:
    # The first one has no broker; what it keeps is bounded and never blocks. The second one has.
    away = Audit(bootstrap="127.0.0.1:1", topic_prefix=topic_prefix, gateway_id="gw-1", backlog=10)
    async with away.running():
        for number in range(1000):
            away.emit(refused(number))
        assert away.waiting == 10
    audit = Audit(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, gateway_id="gw-1", backlog=10)
    with correlated("request-1"):
        for number in range(1000):
            audit.emit(refused(number))
    async with audit.running():
        found = await events.take(9)  # the tenth is that a gateway has started
    assert {each.data.connection_id.int for each in found if isinstance(each.data, ConnectionRefused)} == set(
        range(991, 1000)
    )
    assert audit.waiting == 0
