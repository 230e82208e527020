"""What breaks, breaks here on purpose: killed processes, frozen ones, and input that is no input."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devstack import seed
from devstack.client import RefusedError
from devstack.world import World, until

BOB = seed.RECIPIENT_EMAIL
MAX_STALENESS_SECONDS = 15


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "victim",
    [
        "share-command-relay",
        "share-command",
        "permission-projector",
        "permission-reader",
        "notifier",
        "access-gateway",
        "portal",
    ],
)
async def test_a_killed_process_loses_nothing_and_doubles_no_mail(world: World, victim: str) -> None:
    before, during, after = [await world.device(services=1) for _ in range(3)]
    owner, bob = await world.shared(before)
    killing = asyncio.create_task(world.kill(victim))
    key = str(uuid4())
    document = {
        "query": "mutation($d: String!, $e: [String!]!) { share(deviceId: $d, email: $e) }",
        "variables": {"d": during, "e": [BOB]},
    }

    async def taken() -> bool:  # a client that tries again with the same key until it has an answer
        headers = {"Authorization": f"Bearer {await world.token(seed.OWNER_EMAIL)}", "Idempotency-Key": key}
        try:
            answer = await world.portal.post("/graphql/v1", json=document, headers=headers)
        except httpx.TransportError:
            return False
        if answer.json() != {"data": {"share": True}}:
            assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
            return False
        owner.position = answer.headers["latchkey-position"]
        return True

    await until(taken, 40)
    await killing
    assert owner.position == f"{during}@1"
    await owner.share(after, BOB)
    bob.position = owner.position
    # The mails first: an invitation that is accepted before its mail goes out needs none.
    await until(lambda: world.mails(BOB, during), 60)
    await until(lambda: world.mails(BOB, after), 60)
    await bob.accept(after)
    (await world.open(bob, f"{after}.1")).writer.close()
    await bob.accept(during)
    (await world.open(bob, f"{during}.1")).writer.close()
    assert len(await world.mails(BOB, during)) == 1
    assert len(await world.mails(BOB, after)) == 1


SESSIONS = "query($device: [String!]!) { login { device(id: $device) { sessions { id user { email } } } } }"


@pytest.mark.timeout(180)
async def test_nobody_is_shown_as_connected_through_a_gateway_that_was_killed(world: World) -> None:
    """It could not tell of the end; that it has started anew does."""
    device = await world.device()
    owner, bob = await world.shared(device)
    connection = await world.open(bob, f"{device}.1")

    async def connected() -> list[dict[str, Any]]:
        (found,) = (await owner.ask(SESSIONS, device=[device]))["login"]["device"]
        return found["sessions"]

    (before,) = await until(connected, 30)
    assert before["user"] == {"email": BOB}
    await world.kill("access-gateway")
    await connection.until_closed(20)

    async def gone() -> bool:
        return await connected() == []

    await until(gone, 60)
    again = await world.open(bob, f"{device}.1")
    (after,) = await until(connected, 30)
    assert after["id"] != before["id"]
    again.writer.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("victim", ["share-command-relay", "permission-projector"])
async def test_when_a_link_of_the_chain_stands_still_nothing_stays_open_beyond_the_bound(
    world: World, victim: str
) -> None:
    device = await world.device()
    owner, bob = await world.shared(device)
    connection = await world.open(bob, f"{device}.1")
    with world.frozen(victim):
        await owner.share(device, BOB, action="REMOVE")  # taken, but it cannot reach the gateway
        await connection.until_closed(MAX_STALENESS_SECONDS + 5)
        with pytest.raises(RefusedError) as refusal:
            await bob.connect(f"{device}.1")
        assert refusal.value.code == "UNAVAILABLE"

    async def refused_for_good() -> bool:
        try:
            await bob.connect(f"{device}.1")
        except RefusedError as error:
            return error.code == "ACCESS_DENIED"
        raise AssertionError("a revoked share let somebody in")

    await until(refused_for_good, 60)
    other = await world.device()
    _, bob = await world.shared(other)

    async def works_again() -> Any:
        try:
            return await world.open(bob, f"{other}.1")
        except RefusedError:
            return None

    (await until(works_again, 60)).writer.close()


@pytest.mark.timeout(120)
async def test_a_poison_event_costs_its_own_device_only(world: World) -> None:
    poisoned, healthy = await world.device(), await world.device()
    _, bob = await world.shared(poisoned)
    owner, _ = await world.shared(healthy)
    connection = await world.open(bob, f"{poisoned}.1")
    event = {"specversion": "1.0", "id": str(uuid4()), "type": "latchkey.ShareMelted.v9", "source": "x"}
    event |= {"time": "2026-01-01T00:00:00Z", "subject": poisoned, "version": 3, "data": {}}
    await world.producer.send("share.events", poisoned, json.dumps(event).encode())
    await connection.until_closed(10)
    with pytest.raises(RefusedError):
        await bob.connect(f"{poisoned}.1")
    for account, service in ((owner, f"{poisoned}.1"), (bob, f"{healthy}.1")):
        (await world.open(account, service)).writer.close()


Body = dict[str, Any]


def share_of(**arguments: object) -> Body:
    fields = {"deviceId": "nope", "email": ["bob@example.test"], **arguments}
    query = "mutation($d: String, $e: [String!]!, $s: [ServiceSharingOptions!], $a: SharingAction) "
    query += "{ share(deviceId: $d, email: $e, services: $s, action: $a) }"
    variables = {
        "d": fields["deviceId"],
        "e": fields["email"],
        "s": fields.get("services"),
        "a": fields.get("action"),
    }
    return {"query": query, "variables": variables}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (share_of(), "DEVICE_NOT_FOUND"),
        (share_of(deviceId=seed.WORKSHOP_PC, email=["not an address"]), "INVALID_EMAIL"),
        (share_of(deviceId=seed.WORKSHOP_PC, email=[seed.OWNER_EMAIL]), "SELF_SHARE"),
        (share_of(deviceId=seed.WORKSHOP_PC, services=[{"serviceId": "nope"}]), "SERVICE_NOT_ON_DEVICE"),
        (
            share_of(deviceId=seed.WORKSHOP_PC, services=[{"serviceId": seed.GATE_CAMERA}]),
            "SERVICE_NOT_ON_DEVICE",
        ),
        (share_of(deviceId=seed.WORKSHOP_PC, action="LEAVE"), "NOT_A_RECIPIENT"),
        (share_of(deviceId=seed.WORKSHOP_PC, email=["bob@example.test", "x"]), "INVALID_EMAIL"),
    ],
)
async def test_a_share_that_cannot_be_is_refused_with_its_code(world: World, body: Body, code: str) -> None:
    headers = {"Authorization": f"Bearer {await world.token(seed.OWNER_EMAIL)}"}
    answer = await world.portal.post("/graphql/v1", json=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["data"] == {"share": False}
    assert answer.json()["errors"][0]["extensions"]["code"] == code
    assert answer.json()["errors"][0]["path"] == ["share"]


async def test_a_foreign_device_and_none_at_all_are_the_same_answer(world: World) -> None:
    headers = {"Authorization": f"Bearer {await world.token('cat@example.test')}"}
    answers: list[Any] = []
    for device in (seed.WORKSHOP_PC, "80:00:00:00:99:99:99:99"):
        answer = await world.portal.post("/graphql/v1", json=share_of(deviceId=device), headers=headers)
        answers.append(json.loads(answer.text.replace(device, "D")))
        with pytest.raises(RefusedError) as refusal:
            await (await world.account("cat@example.test")).connect(device)
        answers.append((refusal.value.code, str(refusal.value)))
    assert answers[:2] == answers[2:]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"query": 7}', 400),
        (b'{"query": "mutation { share(deviceId: \\"d\\", email: \\"e@example.test\\""}', 200),
        (b'{"query": "{ nothing }"}', 200),
        (b" " * 1_200_000, 413),
    ],
)
async def test_a_request_that_is_none_gets_a_coded_error(world: World, content: bytes, status: int) -> None:
    headers = {
        "Authorization": f"Bearer {await world.token(seed.OWNER_EMAIL)}",
        "Content-Type": "application/json",
    }
    answer = await world.portal.post("/graphql/v1", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert "errors" in document or document["error"]["code"] == "TOO_LARGE"
    assert "Traceback" not in answer.text


async def test_a_strangers_token_opens_nothing(world: World) -> None:
    for token in ("?", "x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ."):
        answer = await world.portal.post(
            "/graphql/v1", json={"query": "{ login { id } }"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401
        assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    async with httpx.AsyncClient(trust_env=False) as http:
        status = world.status
        for process, path in (
            ("share-command", "/v1/contacts"),
            ("permission-reader", "/v1/devices"),
            ("access-gateway", "/v1/connections"),
        ):
            url = f"{status.url(process)}{path}"
            token = await world.token(seed.OWNER_EMAIL)  # good at the portal, worth nothing between services
            method = "POST" if process == "access-gateway" else "GET"
            answer = await http.request(method, url, headers={"Authorization": f"Bearer {token}"}, json={})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED"), process


async def test_every_process_tells_its_health_and_counts(world: World) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        for item in world.status.processes:
            if item.name in {"postgres", "kafka"} or item.address is None:
                continue
            for path in ("livez", "readyz"):
                assert (await http.get(f"http://{item.address}/{path}")).status_code == 200, (item.name, path)
        for name in (
            "share-command", "share-command-relay", "permission-projector", "permission-reader", "notifier",
            "access-gateway", "portal",
        ):  # fmt: skip
            text = (await http.get(f"{world.status.url(name)}/metrics")).text
            assert "process_cpu_seconds_total" in text, name


async def test_one_correlation_id_follows_a_share_from_the_request_to_the_mail_and_the_cut(
    world: World,
) -> None:
    device = await world.device()
    correlation = f"c-{uuid4().hex}"

    async def ask(email: str, query: str, **variables: object) -> Any:
        headers = {"Authorization": f"Bearer {await world.token(email)}", "X-Correlation-Id": correlation}
        body = {"query": query, "variables": variables}
        answer = await world.portal.post("/graphql/v1", json=body, headers=headers)
        assert "errors" not in answer.json(), answer.text
        return answer

    share = "mutation($d: String!, $e: [String!]!, $a: SharingAction) "
    share += "{ share(deviceId: $d, email: $e, action: $a) }"
    await ask(seed.OWNER_EMAIL, share, d=device, e=BOB)
    (mail,) = await until(lambda: world.mails(BOB, device))
    assert correlation in json.dumps(mail["headers"])
    bob = await world.account(BOB)
    bob.position = f"{device}@1"
    await bob.accept(device)
    connection = await world.open(bob, f"{device}.1")
    await ask(seed.OWNER_EMAIL, share, d=device, e=BOB, a="REMOVE")
    await connection.until_closed(5)

    expected = {"portal", "share-command", "permission-projector", "notifier", "access-gateway"}

    async def in_every_log() -> bool:
        return all(any(correlation in line for line in world.log_lines(name)) for name in expected)

    await until(in_every_log)

    async def cut_lines() -> list[str]:
        of_it = [line for line in world.log_lines("access-gateway") if correlation in line]
        return [line for line in of_it if "connection_ended" in line and "grant_ended" in line]

    (cut,) = await until(cut_lines)
    assert device in cut


async def test_nothing_private_is_in_any_log(world: World) -> None:
    device = await world.device()
    secret_address = f"very-private-{uuid4().hex[:8]}@example.test"
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.share(device, secret_address)
    (mail,) = await until(lambda: world.mails(secret_address, device))
    link = next(word for word in mail["text"].split() if "/invitations/" in word)
    await world.portal.get(link)
    tokens = [await world.token(email) for email in (seed.OWNER_EMAIL, BOB)]
    secrets = [secret_address, link.rpartition("/")[2], *(token.rpartition(".")[2] for token in tokens)]
    for log in world.state.logs.glob("*.log"):
        text = log.read_text(errors="replace")
        if log.stem in {"postgres", "kafka"}:
            continue
        for secret in (*secrets, seed.OWNER_EMAIL, BOB):
            assert secret not in text, f"{log.name} holds something private"
