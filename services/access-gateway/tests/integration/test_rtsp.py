"""A camera through the gateway, as its viewers see it: each function comes, and goes, by itself."""

import asyncio
import itertools
import json
import socket
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING

import asyncpg
import av
import pytest
from av.error import HTTPForbiddenError, HTTPUnauthorizedError
from rtsp_client import LIVE, REPLAY, SPEAKER, Person
from rtsp_site import Site

from access_gateway.clients import TlsClient
from access_gateway.connections import Connection
from contracts.events import CutReason
from devstack.camera import Camera

if TYPE_CHECKING:
    from conftest import Events

    from devstack.certificates import Files
    from devstack.pytest_plugin import Database

pytestmark = pytest.mark.slow

STREAMS = {
    "live_view": ("live", LIVE),
    "playback": ("recording", REPLAY),
    "two_way_audio": ("speaker", SPEAKER),
}
AT = {"range": "clock=20260301T100000Z-"}
CHECK_WAITS = """
    select count(*) from pg_stat_activity where usename = 'access_gateway' and wait_event_type = 'Lock'
"""
COMBINATIONS = [set(chosen) for size in range(4) for chosen in itertools.combinations(STREAMS, size)]


async def until(condition: "Iterable[bool]") -> None:
    """Wait for the first true one of a condition that is asked again and again."""
    async with asyncio.timeout(20):
        for met in condition:
            if met:
                return
            await asyncio.sleep(0.02)


async def plays(person: Person) -> dict[str, int]:
    """What the person is told who wants everything, in one connection."""
    return {
        function: await person.play(stream, channel, **(AT if stream == "recording" else {}))
        for function, (stream, channel) in STREAMS.items()
    }


async def heard(person: Person, camera: Camera) -> None:
    """Talk until the camera has heard more than before."""

    def said() -> Iterable[bool]:
        before = camera.heard
        while True:
            person.say()
            yield camera.heard > before

    await until(said())


async def works(person: Person, camera: Camera, function: str) -> None:
    """Wait until a function is seen, or heard, to work."""
    if function == "two_way_audio":
        await heard(person, camera)
    else:
        await person.sees(STREAMS[function][1])


@pytest.mark.parametrize("functions", COMBINATIONS[1:], ids=lambda chosen: "+".join(sorted(chosen)))
async def test_each_function_is_granted_or_refused_by_itself_and_cut_by_itself(
    site: Site, functions: set[str]
) -> None:
    async def lose(lost: str) -> None:
        name = f"cam-{lost}"
        camera = await site.camera(name, functions)
        person = await site.person(name)
        statuses = await plays(person)
        assert statuses == {each: 200 if each in functions else 403 for each in STREAMS}
        for function in sorted(functions):
            await works(person, camera, function)
        if "two_way_audio" not in functions:
            person.say()
            assert camera.heard == 0
        left = functions - {lost}
        if left:
            await site.world.narrow(name, json.dumps(sorted(left)))
            await until(
                any(each.startswith("TEARDOWN") for each in camera.requests) for _ in itertools.count()
            )
            await person.ask("GET_PARAMETER", f"{person.url}/", session=next(iter(person.sessions.values())))
            seen, told = person.frames[STREAMS[lost][1]], camera.heard
            for function in sorted(left):
                await works(person, camera, function)
            if lost == "two_way_audio":
                person.say()
                await person.sees(STREAMS[min(left)][1])
                assert camera.heard == told
            else:
                assert person.frames[STREAMS[lost][1]] == seen
            assert (await person.ask("DESCRIBE", f"{person.url}/")).status == (
                200 if "live_view" in left else 403
            )
        else:
            await site.world.revoke(name)
            await person.ended()
            assert [(each.method, each.one("latchkey-code")) for each in person.told] == [
                ("TEARDOWN", "ACCESS_DENIED")
            ]

    await asyncio.gather(*(lose(each) for each in sorted(functions)))


async def test_a_stranger_learns_nothing(site: Site) -> None:
    await site.camera("cam", ["live_view"])
    person = await site.person("cam", token="")
    assert (await person.ask("OPTIONS")).status == 200
    asked = await person.ask("DESCRIBE")
    assert (asked.status, asked.one("latchkey-code")) == (401, "UNAUTHENTICATED")
    assert [each.partition(" ")[0] for each in asked.all("www-authenticate")] == ["Basic", "Bearer"]
    forged = await site.person("cam", token="not.a.token")
    assert (await forged.ask("DESCRIBE")).status == 401
    other = await site.person("cam", account="mallory")
    nothing = await site.person("no-such", account="mallory")
    answers = [await each.ask("DESCRIBE") for each in (other, nothing)]
    assert {(each.status, each.headers[1:]) for each in answers} == {
        (403, (("latchkey-code", "ACCESS_DENIED"),))
    }
    assert (await other.ask("SETUP", f"{other.url}/live/track0", transport="RTP/AVP/TCP")).status == 455


async def test_to_whom_none_of_its_functions_is_granted_a_camera_is_not_there(site: Site) -> None:
    camera = await site.camera("cam", ["scripting"])
    for name in ("cam", "no-such"):
        for stream in ("", "/live", "/recording"):
            person = await site.person(name)
            asked = await person.ask("DESCRIBE", f"{person.url}{stream}")
            assert (asked.status, asked.headers[1:]) == (403, (("latchkey-code", "ACCESS_DENIED"),))
    assert camera.requests == []


async def test_the_camera_sees_neither_the_token_nor_what_was_asked_word_for_word(site: Site) -> None:
    said = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            said.extend(data)
            writer.write(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\nServer: secret maker\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    await site.world.camera("cam", server.sockets[0].getsockname(), "/ch1/live", None)
    await site.world.share("cam", "ann")
    person = await site.person("cam")
    answer = await person.ask("DESCRIBE", x_evil="1", require="www.onvif.org/ver20/backchannel")
    assert (answer.status, answer.one("latchkey-code")) == (404, "CAMERA_REFUSED")
    assert b"secret" not in answer.encode()
    text = bytes(said).lower()
    assert b"describe rtsp://127.0.0.1:" in text
    assert b"backchannel" in text
    assert b"authorization" not in text and b"evil" not in text and b"cam-svc" not in text
    server.close()


async def test_what_the_gateway_does_not_understand_ends_at_the_gateway(site: Site) -> None:
    camera = await site.camera("cam", STREAMS)
    person = await site.person("cam")
    assert await person.play("live", LIVE) == 200
    before = list(camera.requests)
    base, session = f"{person.url}/live/", person.sessions[LIVE]
    for method, url, headers, status in (
        ("RECORD", base, {"session": session}, 405),
        ("ANNOUNCE", base, {}, 405),
        ("MAGIC", base, {}, 501),
        ("PLAY", "rtsp://127.0.0.1/other-svc/live/", {"session": session}, 403),
        ("PLAY", f"{base}../../secret", {"session": session}, 404),
        ("PLAY", base, {"session": "12345678"}, 454),
        ("PLAY", base, {"session": session, "require": "magic"}, 551),
        ("SETUP", f"{base}track0", {"transport": "RTP/AVP;unicast;client_port=5000-5001"}, 461),
    ):
        answer = await person.ask(method, url, **headers)
        assert (method, answer.status) == (method, status)
    assert camera.requests == before
    await person.sees(LIVE)


async def test_requests_that_come_together_are_answered_in_order_while_it_plays(site: Site) -> None:
    await site.camera("cam", STREAMS)
    person = await site.person("cam")
    person.send("DESCRIBE", person.url)
    person.send("OPTIONS", person.url)
    person.send("SETUP", f"{person.url}/live/track0", transport="RTP/AVP/TCP;unicast;interleaved=0-1")
    answers = [await person.answer() for _ in range(3)]
    assert [(each.status, each.one("cseq")) for each in answers] == [(200, "1"), (200, "2"), (200, "3")]
    session = (answers[2].one("session") or "").partition(";")[0]
    person.send("PLAY", f"{person.url}/live/", session=session)
    for _ in range(5):
        person.send("GET_PARAMETER", f"{person.url}/live/", session=session)
    assert [(await person.answer()).status for _ in range(6)] == [200] * 6
    await person.sees(LIVE)
    assert (await person.ask("TEARDOWN", f"{person.url}/live/", session=session)).status == 200
    assert (await person.ask("PLAY", f"{person.url}/live/", session=session)).status == 454


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"DESCRIBE rtsp://x/cam-svc RTSP/2.0\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 505 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"RTSP/1.0 400 "),
        (b"DESCRIBE rtsp://x/cam-svc RTSP/1.0\r\nCSeq : 1\r\n\r\n", b"RTSP/1.0 400 "),
        (b"\x00" * 20_000, b"RTSP/1.0 400 "),
    ],
)
async def test_what_is_no_rtsp_1_0_is_told_so(site: Site, sent: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(sent)
    async with asyncio.timeout(20):
        assert (await reader.read(13)).startswith(status)
    writer.close()


async def test_access_events_tell_of_the_stream_and_of_its_cut(site: Site, events: "Events") -> None:
    await site.camera("cam", ["live_view"])
    person = await site.person("cam")
    assert await person.play("live", LIVE) == 200
    await person.sees(LIVE)
    await site.world.revoke("cam")
    await person.ended()
    opened, cut = [each.data.model_dump() for each in await events.take(2)]
    assert (opened["permission"], opened["way"], opened["account_id"]) == ("live_view", "rtsp", "ann")
    assert (cut["reason"], cut["bytes_from_device"] > 0) == ("grant_ended", True)


async def test_a_person_who_does_not_listen_is_cut_too(site: Site) -> None:
    """His buffers are full: the connection is reset, and what waits in them is not delivered."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        description = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=control:video\r\n"
        answers = [
            b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s"
            % (len(description), description),
            b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nSession: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n",
        ]
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        try:
            while True:
                writer.write((b"$\0\xff\xff" + b"x" * 65_535) * 4)
                await writer.drain()
        except ConnectionError:
            writer.close()
            gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    await site.world.camera("cam", server.sockets[0].getsockname(), "/", None)
    await site.world.share("cam", "ann")
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, limit=4096)
    url = f"rtsp://127.0.0.1:{site.port}/cam-svc"
    token = f"Authorization: Bearer {site.issuer.token('ann')}\r\n"
    for sequence, line in enumerate(
        (f"DESCRIBE {url}", f"SETUP {url}/live/track0", f"PLAY {url}/live/"), start=1
    ):
        extra = {2: "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", 3: "Session: 1\r\n"}.get(sequence, "")
        writer.write(f"{line} RTSP/1.0\r\nCSeq: {sequence}\r\n{token}{extra}\r\n".encode())
    await site.gateway.reaches("gateway_open_connections", 1)
    await asyncio.sleep(0.5)  # until every buffer on the way is full
    await site.world.revoke("cam")
    async with asyncio.timeout(20):
        await gone.wait()
    await site.gateway.reaches("gateway_open_connections", 0)
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(20):
            while await reader.read(65_536):
                pass
    writer.close()
    server.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_player_shows_the_picture_with_a_stream_password(site: Site, secure: bool) -> None:
    camera = await site.camera("cam", ["live_view"])
    answer = await site.gateway.http.post(
        "/v1/stream-passwords", json={"service_id": "cam-svc"}, headers=site.gateway.headers("ann")
    )
    assert answer.status_code == 201
    given = answer.json()
    url = next(each for each in given["urls"] if each.startswith("rtsps:" if secure else "rtsp:"))
    url = url.replace("://", f"://viewer:{given['password']}@")

    def look(address: str) -> int:
        options = {"rtsp_transport": "tcp", "analyzeduration": "300000"}
        with av.open(address, options=options, timeout=20) as stream:
            frames = itertools.islice(stream.decode(video=0), 5)
            return len({bytes(frame.planes[0]) for frame in frames})

    assert await asyncio.to_thread(look, url) > 1
    assert camera.watched["live"] > 4
    with pytest.raises(HTTPForbiddenError):
        await asyncio.to_thread(look, f"{url}/recording")
    other = url.replace("cam-svc", "other-svc")
    with pytest.raises(HTTPUnauthorizedError):
        await asyncio.to_thread(look, other)


async def test_a_camera_is_let_go_when_the_person_has_left_before_it_was_reached(
    site: Site, database: "Database", certificates: "Files"
) -> None:
    reached, let_go = asyncio.Event(), asyncio.Event()

    async def camera(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        while await reader.read(65_536):
            pass
        let_go.set()
        writer.close()

    server = await asyncio.start_server(camera, "127.0.0.1", 0)
    await site.world.camera("cam-1", server.sockets[0].getsockname(), "/ch1/live", "/ch1/recording")
    await site.world.share("cam-1", "ann", '["live_view"]')
    trusting = ssl.create_default_context(cafile=certificates.ca)
    person = await Person.come(site.tls_port, "cam-1-svc", site.issuer.token("ann"), trusting)
    blocking = await asyncpg.connect(database.dsn())
    try:
        await blocking.execute("begin; lock table permissions.share in access exclusive mode")
        person.send("DESCRIBE", person.url)
        async with asyncio.timeout(1.5):  # the gateway waits no longer for the database
            while not await blocking.fetchval(CHECK_WAITS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        person.vanish()
    finally:
        await blocking.close()
    async with asyncio.timeout(20):
        await reached.wait()
        await let_go.wait()
    await person.leave()
    server.close()


async def test_a_cut_in_the_moment_in_which_a_person_is_lost_harms_nobody_else(
    site: Site, certificates: "Files", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TLS connection is lost a step before its protocol is told. Whoever cuts then goes on to the next."""
    released, release = list[asyncio.Transport](), TlsClient.release

    def kept(client: TlsClient) -> asyncio.Transport:
        released.append(release(client))
        return released[-1]

    monkeypatch.setattr(TlsClient, "release", kept)
    await site.camera("cam-1", {"live_view"})
    trusting = ssl.create_default_context(cafile=certificates.ca)
    person = await Person.come(site.tls_port, "cam-1-svc", site.issuer.token("ann"), trusting)
    assert await person.play("live", LIVE) == 200
    (held,) = site.gateway.app.holdings.all()
    loop = asyncio.get_running_loop()
    cut: asyncio.Future[None] = loop.create_future()

    def cut_when_lost() -> None:  # looks between all steps
        if released[0].get_extra_info("socket") is not None:
            loop.call_soon(cut_when_lost)
            return
        try:
            held.end(CutReason.STALE)
        except Exception as error:
            cut.set_exception(error)
        else:
            cut.set_result(None)

    cut_when_lost()
    person.vanish()
    async with asyncio.timeout(20):
        await cut
    await person.leave()


async def test_a_camera_that_closes_before_the_person_is_joined_to_it_is_told_of(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that is full. Whoever asked has his answer, like anybody whose camera fails later."""
    dial = Connection.dial

    async def dialled(connection: Connection) -> socket.socket:
        device = await dial(connection)
        camera, _ = listener.accept()
        camera.close()
        return device

    monkeypatch.setattr(Connection, "dial", dialled)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await site.world.camera("cam-1", listener.getsockname(), "/ch1/live", "/ch1/recording")
        await site.world.share("cam-1", "ann", '["live_view"]')
        person = await site.person("cam-1")
        answer = await person.ask("DESCRIBE")
        assert (answer.status, answer.one("latchkey-code")) == (502, "CAMERA_FAILED")
        await person.ended()
