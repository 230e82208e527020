"""What 100 cameras of 4 Mbit/s cost the gateway, which reads every frame of their RTSP.

One process is the cameras (25 pictures a second, each 17 RTP packets in one piece), one the viewers. Between
them, in turn, is one process with the RTSP relay and one with the plain byte pump as the peer. Counted are
its seconds of CPU while it relays, and what arrives.

    ./latchkey bench rtsp
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import socket
import statistics
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any, cast

import psutil
import uvloop

from access_gateway.clients import PlainClient
from access_gateway.policy import CAMERA_FUNCTIONS
from access_gateway.protocols.rtsp import addresses, rules
from access_gateway.protocols.rtsp.addresses import Camera
from access_gateway.protocols.rtsp.conversation import Conversation, Forward
from access_gateway.protocols.rtsp.messages import OPEN, Reader, Request, Response
from access_gateway.protocols.rtsp.relay import Relay
from access_gateway.relay import Engine, Limits, adopt
from access_gateway.targets import plain_address

RATE, PACKETS, PACKET = 25, 17, 1176
PICTURE = (b"$\0" + PACKET.to_bytes(2, "big") + b"\x80\x60" + b"x" * (PACKET - 2)) * PACKETS
DESCRIPTION = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:video\r\n"


async def camera(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer, and after PLAY send pictures for ever."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            sequence = next(line for line in head.splitlines() if line.lower().startswith("cseq"))
            more = {
                "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(DESCRIPTION)}\r\n",
                "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
            }.get(head.partition(" ")[0], "")
            writer.write(f"RTSP/1.0 200 OK\r\n{sequence}\r\nSession: 1\r\n{more}\r\n".encode())
            if head.startswith("DESCRIBE"):
                writer.write(DESCRIPTION)
            if head.startswith("PLAY"):
                break
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            writer.write(PICTURE)
            await writer.drain()
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - loop.time()))
    except (
        asyncio.IncompleteReadError,
        ConnectionError,
        RuntimeError,
    ):  # the last: uvloop, of one that is closed
        writer.close()


class Grant:
    """In place of a connection with a grant that stays."""

    def __init__(self) -> None:
        self.on_change: object = None
        self.access = type("Access", (), {"functions": dict.fromkeys(CAMERA_FUNCTIONS)})

    def opened(self, permission: object) -> None:
        """Nobody is told."""

    def count(self, **figures: int) -> None:
        """Nobody counts."""


async def by_rtsp(client: socket.socket, device: socket.socket) -> None:
    """Relay as the door does it, once it knows who comes."""
    conversation = Conversation(Camera("camera", "/", None, None), CAMERA_FUNCTIONS)

    async def judge(request: Request) -> Forward | Response:
        rules.screen(request)
        address = addresses.read(request.uri)
        assert address is not None
        return conversation.request(request, address)

    person = PlainClient(client, plain_address("127.0.0.1"))
    reader = Reader(bytearray(256))
    requests: list[Request] = []
    while not requests:
        requests += [item for item in reader.feed(await person.receive()) if isinstance(item, Request)]
    relay = Relay(judge, idle_seconds=600)
    relay.take(requests, reader)
    await relay.run(cast("Any", Grant()), conversation, person, device)


def between(kind: str, target: int, pipe: Pipe) -> None:
    """The process that is measured: accept, dial, relay."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        listener.setblocking(False)
        pipe.send(listener.getsockname()[1])
        engine = Engine() if kind == "pump" else None
        tasks: set[asyncio.Task[None]] = set()

        async def serve(client: socket.socket) -> None:
            device = socket.socket()
            device.setblocking(False)
            await loop.sock_connect(device, ("127.0.0.1", target))
            if engine is None:
                await by_rtsp(client, device)
            else:
                await adopt(engine, client, device, Limits(idle_seconds=600)).wait()

        with engine.running() if engine is not None else contextlib.nullcontext():
            while True:
                client, _ = await loop.sock_accept(listener)
                tasks.add(asyncio.create_task(serve(client)))

    uvloop.run(run())


def cameras(pipe: Pipe) -> None:
    """The process of the cameras."""

    async def run() -> None:
        server = await asyncio.start_server(camera, "127.0.0.1", 0, backlog=1000)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class Viewer(asyncio.Protocol):
    """Asks, plays, and counts what comes."""

    def __init__(self, url: str) -> None:
        self._requests = [
            f"DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            f"SETUP {url}/live/track0 RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n",
            f"PLAY {url}/live/ RTSP/1.0\r\nCSeq: 3\r\nSession: 1\r\n\r\n",
        ]
        self._reader = Reader(bytearray([OPEN] * 256))
        self.playing = asyncio.get_running_loop().create_future()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._requests.pop(0).encode())

    def data_received(self, data: bytes) -> None:
        if self.playing.done():
            self.received += len(data)
            return
        for item in self._reader.feed(data):
            if isinstance(item, bytes):
                if not self.playing.done():
                    self.playing.set_result(None)
            elif self._requests:
                self._transport.write(self._requests.pop(0).encode())


def started(target: Callable[..., None], *arguments: object) -> tuple[multiprocessing.Process, int]:
    """A process, and the port that it says it has."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    return process, ours.recv()


async def watch(port: int, pid: int, count: int, seconds: float) -> tuple[float, float]:
    """Seconds of CPU and bytes relayed, per second."""
    loop = asyncio.get_running_loop()
    viewers: list[Viewer] = []
    for _ in range(count):
        _, viewer = await loop.create_connection(lambda: Viewer("rtsp://g/cam"), "127.0.0.1", port)
        viewers.append(viewer)
    async with asyncio.timeout(60):
        await asyncio.gather(*(viewer.playing for viewer in viewers))
    process = psutil.Process(pid)

    def reading() -> tuple[float, int, float]:
        used = process.cpu_times()
        return used.user + used.system, sum(viewer.received for viewer in viewers), loop.time()

    before = reading()
    await asyncio.sleep(seconds)
    cpu, received, passed = (after - first for after, first in zip(reading(), before, strict=True))
    return cpu / passed, received / passed


def main() -> None:
    """Measure, and print the figures as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", nargs="?", help="of a running stack; not used")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cameras", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    source, target = started(cameras)
    found: dict[str, list[tuple[float, float]]] = {"rtsp": [], "pump": []}
    for _ in range(options.runs):
        for kind, results in found.items():
            process, port = started(between, kind, target)
            results.append(uvloop.run(watch(port, process.pid or 0, options.cameras, options.seconds)))
            process.kill()
            process.join()
    source.kill()
    middle = {
        kind: [statistics.median(column) for column in zip(*results, strict=True)]
        for kind, results in found.items()
    }
    ratio = middle["rtsp"][0] / middle["pump"][0]
    figures: list[dict[str, object]] = [
        {
            "figure": "cpu_of_100_cameras", "value": round(middle["rtsp"][0], 4), "unit": "cores",
            "peer": "plain byte pump", "peer_value": round(middle["pump"][0], 4), "ratio": round(ratio, 2),
        },
        {
            "figure": "relayed", "value": round(middle["rtsp"][1] * 8 / 1e6, 1), "unit": "Mbit/s",
            "peer": "plain byte pump", "peer_value": round(middle["pump"][1] * 8 / 1e6, 1),
        },
    ]  # fmt: skip
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    print(json.dumps({"name": "rtsp", "figures": figures, "runs": options.runs, "machine": machine}))


if __name__ == "__main__":
    main()
