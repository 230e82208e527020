"""The doors: TLS, renewed certificates, and strangers who stay too long or come in crowds."""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from access_gateway.clients import Client
from access_gateway.doors import Crowd, Door
from access_gateway.tls import Certificate, CertificateError

if TYPE_CHECKING:
    from devstack.certificates import Files


class Host:
    """A handler: admits who says hello, and repeats what he says."""

    def __init__(self) -> None:
        self.sources: list[str] = []

    async def __call__(self, client: Client) -> None:
        said = await client.receive()
        while said and not b"hello".startswith(said) and not said.startswith(b"hello"):
            said = await client.receive()
        while said and len(said) < 5:
            said += await client.receive()
        if not said:
            return
        client.admit()
        self.sources.append(str(client.source))
        client.unread(said)
        while data := await client.receive():
            await client.send(data)
        await client.close()


class Opened:
    """Opens doors on free ports, and closes them after the test."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack
        self.host = Host()
        self.crowd = Crowd(1000, 5)

    def __call__(self, certificate: Certificate | None = None, *, hello_seconds: float = 20.0) -> int:
        door = Door(
            "test",
            ("127.0.0.1", 0),
            self.host,
            crowd=self.crowd,
            hello_seconds=hello_seconds,
            certificate=certificate,
        )
        self._stack.push_async_callback(door.close)
        return door.port


@pytest.fixture
async def opened() -> AsyncGenerator[Opened]:
    async with contextlib.AsyncExitStack() as stack:
        yield Opened(stack)


def trusting(files: "Files") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files.ca)


async def says(
    port: int, said: bytes, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> bytes:
    """What comes back to it until the door closes."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, local_addr=(source, 0), ssl=tls, server_hostname="localhost" if tls else None
    )
    try:
        async with asyncio.timeout(30):
            writer.write(said)
            if tls is None and said:
                writer.write_eof()
                return await reader.read()
            return await reader.readexactly(len(said)) if said else await reader.read()
    finally:
        writer.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until_empty(crowd: Crowd) -> None:
    async with asyncio.timeout(20):
        while crowd.inside:  # noqa: ASYNC110 - the other side of a socket
            await asyncio.sleep(0.01)


async def test_plain_and_tls_say_the_same(opened: Opened, certificates: "Files") -> None:
    plain, secure = opened(), opened(Certificate(certificates.certificate, certificates.key))
    assert await says(plain, b"hello there") == b"hello there"
    assert await says(secure, b"hello there", tls=trusting(certificates)) == b"hello there"
    long = b"hello" + os.urandom(3_000_000)
    assert await says(secure, long, tls=trusting(certificates)) == long
    await until_empty(opened.crowd)


async def test_tls_is_new_and_the_certificate_is_ours(opened: Opened, certificates: "Files") -> None:
    port = opened(Certificate(certificates.certificate, certificates.key))
    with pytest.raises(ssl.SSLCertVerificationError):
        await says(port, b"hello", tls=ssl.create_default_context())
    old = trusting(certificates)
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await says(port, b"hello", tls=old)
    middle = trusting(certificates)
    middle.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await says(port, b"hello", tls=middle) == b"hello"
    await until_empty(opened.crowd)


async def test_a_renewed_certificate_is_served_and_a_spoilt_one_is_not(
    opened: Opened, certificates: "Files", tmp_path: Path
) -> None:
    from devstack.certificates import files, make

    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(certificates.certificate, cert)
    shutil.copy(certificates.key, key)
    certificate = Certificate(cert, key)
    port = opened(certificate)
    make(tmp_path / "other")
    other = files(tmp_path / "other")
    shutil.copy(other.certificate, cert)  # half of a renewal: the key is still the old one
    certificate.renew()
    assert await says(port, b"hello", tls=trusting(certificates)) == b"hello"
    key.unlink()
    certificate.renew()
    assert await says(port, b"hello", tls=trusting(certificates)) == b"hello"
    shutil.copy(other.key, key)
    certificate.renew()
    assert await says(port, b"hello", tls=trusting(other)) == b"hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        await says(port, b"hello", tls=trusting(certificates))


def test_files_that_do_not_belong_together_stop_the_start(certificates: "Files", tmp_path: Path) -> None:
    from devstack.certificates import files, make

    make(tmp_path / "other")
    for cert, key in (
        (certificates.certificate, files(tmp_path / "other").key),
        (certificates.ca, tmp_path / "none.pem"),
        (certificates.key, certificates.certificate),
    ):
        with pytest.raises(CertificateError, match="cannot be used"):
            Certificate(cert, key)


async def test_strangers_have_only_so_long(opened: Opened, certificates: "Files") -> None:
    plain = opened(hello_seconds=0.5)
    secure = opened(Certificate(certificates.certificate, certificates.key), hello_seconds=0.5)
    files = open_files()
    for port in (plain, secure):  # one says nothing, also no handshake; one says a little now and then
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            assert await says(port, b"") == b""
            raise ConnectionError
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(20):
            while not ended.done():
                writer.write(b"x" if port == plain else b"\x16")
                await asyncio.wait({ended}, timeout=0.02)
        with contextlib.suppress(ConnectionError):
            assert await ended == b""
        writer.close()
    await until_empty(opened.crowd)
    async with asyncio.timeout(20):
        while open_files() > files:  # noqa: ASYNC110 - closed by the loop
            await asyncio.sleep(0.01)


async def test_who_is_admitted_may_stay(opened: Opened) -> None:
    port = opened(hello_seconds=1.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await asyncio.sleep(1.3)  # longer than a stranger may
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()


async def test_a_crowd_from_one_address_keeps_nobody_else_out(opened: Opened) -> None:
    port = opened()
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    async with asyncio.timeout(20):
        while opened.crowd.inside < 5:  # noqa: ASYNC110 - the other side of a socket
            await asyncio.sleep(0.01)
    with pytest.raises(ConnectionError):
        assert await says(port, b"hello") == b""
        raise ConnectionError
    assert await says(port, b"hello", source="127.0.0.2") == b"hello"
    for reader, writer in crowd:  # once they have said who they are, there is room again
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    assert await says(port, b"hello") == b"hello"
    for _, writer in crowd:
        writer.close()
    await until_empty(opened.crowd)
    assert "127.0.0.1" in opened.host.sources


async def test_when_all_places_are_taken_nobody_comes_in(opened: Opened) -> None:
    opened.crowd = Crowd(1, 5)
    port = opened()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    with socket.create_connection(("127.0.0.1", port)) as second, pytest.raises(ConnectionError):
        await asyncio.to_thread(second.sendall, b"hello")
        assert await asyncio.to_thread(second.recv, 5) == b""
        raise ConnectionError
    writer.close()
    await until_empty(opened.crowd)
    assert await says(port, b"hello") == b"hello"


async def test_who_does_not_answer_the_end_is_not_kept(opened: Opened, certificates: "Files") -> None:
    """He has had his answer; TLS itself would wait half a minute for his own end, and no limit counts him."""

    async def turns_away(client: Client) -> None:
        await client.receive()
        await client.send(b"no")
        await client.close()

    door = Door(
        "test",
        ("127.0.0.1", 0),
        turns_away,
        crowd=opened.crowd,
        hello_seconds=20.0,
        certificate=Certificate(certificates.certificate, certificates.key),
    )
    with socket.create_connection(("127.0.0.1", door.port)) as below:

        def told() -> bytes:
            with trusting(certificates).wrap_socket(below.dup(), server_hostname="localhost") as stranger:
                stranger.sendall(b"may I?")
                return stranger.recv(16) + stranger.recv(16)

        assert await asyncio.to_thread(told) == b"no"
        below.setblocking(False)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(below, 16) == b""
    await door.close()
