"""Generated input through every parser that strangers reach: no crash, no hang, memory flat.

Each parser is a function of bytes; the only errors that it may raise are those that it names. Input is made
by a seeded generator from samples of what the parser understands: bytes are changed, cut out, doubled, and
spliced from other samples, so that most of it gets past the first check. It needs no servers, and tells the
inputs of each parser, crashes, the slowest input, and by how much memory grew. With a crash, or an input that
takes longer than half a second, it ends with 1.

    ./latchkey bench fuzz
    .venv/bin/python bench/fuzz.py --inputs 10000 --seed 2
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from websockets.frames import Frame, Opcode

from access_gateway.agents import protocol as agents
from access_gateway.protocols import head, names
from access_gateway.protocols.bridge import frames
from access_gateway.protocols.rtsp import messages, sdp
from servicekit.http import ApiError

INPUTS = 1_000_000
SECONDS = 900.0
SLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Parser:
    """What is fed. ``raises`` are the errors by which it refuses."""

    name: str
    feed: Callable[[bytes], object]
    samples: Sequence[bytes]
    raises: tuple[type[Exception], ...] = ()


def _halves(data: bytes) -> list[bytes]:
    """As it may come over the network; an empty part would be its end."""
    cut = len(data) // 2
    return [part for part in (data[:cut], data[cut:]) if part]


def _head(data: bytes) -> None:
    reader = head.HeadReader()
    found = None
    for part in _halves(data):
        found = found or reader.feed(part)
    if found is not None:
        head.token_of(found.one("proxy-authorization"))
        found.has("upgrade", "websocket")
        assert len(reader.rest) <= len(data)


def _websocket(data: bytes) -> None:
    protocol = frames()
    for part in _halves(data):
        if not protocol.eof_sent:
            protocol.receive_data(part)
    assert sum(len(each.data) for each in protocol.events_received() if isinstance(each, Frame)) <= len(data)
    protocol.data_to_send()


def _name(data: bytes) -> None:
    found = names.service_of(data.decode("latin-1"))
    assert names.service_of(names.host_name(found) + ":1") == found


def _rtsp(data: bytes) -> None:
    reader = messages.Reader(bytearray(256))
    for part in _halves(data):
        for _ in reader.feed(part):
            pass
    assert reader.kept <= len(data)


def _sdp(data: bytes) -> None:
    description = sdp.read(data)
    told = {index: (f"track{index}", each.direction) for index, each in enumerate(description.media)}
    sdp.read(sdp.write(description, told.get))


def _agent(data: bytes) -> None:
    lines = agents.Lines()
    for part in _halves(data):
        lines.feed(part)
        while (line := lines.next()) is not None:
            for read in (agents.read_first, agents.read_ping, agents.read_answer):
                with contextlib.suppress(agents.MalformedError):
                    read(line)


HEADS = [
    b"CONNECT 80-00-00-00-01-00-00-02.latchkey:22 HTTP/1.1\r\nHost: x\r\n"
    b"Proxy-Authorization: Bearer abc.def.ghi\r\n\r\nSSH-2.0-x\r\n",
    b"CONNECT [80:00:02]:22 HTTP/1.0\r\nProxy-Authorization: Basic YTpi\r\n\r\n",
    b"GET /v1/connect/dev-1?position=dev-1@7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade"
    b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
]
FRAMES = [
    Frame(opcode, data, fin=fin).serialize(mask=True)
    for opcode, data, fin in (
        (Opcode.BINARY, b"hello" * 50, True),
        (Opcode.BINARY, b"x" * 70_000, False),
        (Opcode.CONT, b"more", True),
        (Opcode.TEXT, "text ä".encode(), True),
        (Opcode.PING, b"ping", True),
        (Opcode.CLOSE, b"\x03\xe8bye", True),
    )
]
NAMES = [b"80-00-00-00-01-00-00-02.latchkey:22", b"[80:00:02]:22", b"_43am_2d1.latchkey:554", b"dev-1:80"]

RTSP = [
    b"DESCRIBE rtsp://x/cam-1 RTSP/1.0\r\nCSeq: 1\r\nRequire: www.onvif.org/ver20/backchannel\r\n\r\n",
    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nv=0\r\n",
    b"$\x00\x00\x08\x80\x60\x00\x01\x00\x00\x00\x00SETUP rtsp://x/a RTSP/1.0\r\nCSeq: 2\r\n"
    b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
]
SDP = [
    b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n"
    b"a=rtpmap:96 H264/90000\r\na=control:track1\r\na=recvonly\r\nm=audio 0 RTP/AVP 0\r\na=sendonly\r\n",
]
AGENT = [
    b'{"type":"login","version":1,"device_id":"dev-1","key":"' + b"A" * 43 + b'"}\n{"type":"ping"}\n',
    b'{"type":"ready"}\n{"type":"failed","code":"TARGET_UNREACHABLE"}\n',
]

PARSERS = [
    Parser("head", _head, HEADS, (ApiError,)),
    Parser("websocket", _websocket, FRAMES),
    Parser("name", _name, NAMES, (ValueError,)),
    Parser("rtsp", _rtsp, RTSP, (messages.MalformedError,)),
    Parser("sdp", _sdp, SDP, (sdp.UnreadableError,)),
    Parser("agent", _agent, AGENT, (agents.MalformedError,)),
]


def changed(samples: Sequence[bytes], chance: random.Random) -> bytes:
    """A sample, or several, with a few things wrong."""
    data = bytearray(chance.choice(samples))
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                del data[at : at + chance.randrange(1, 40)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 200)] * chance.randrange(1, 20)
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 20))
            case 4:
                other = chance.choice(samples)
                data[at:] = other[chance.randrange(len(other)) :]
            case _:
                data[at : at + 4] = chance.choice([b"\r\n\r\n", b"\x00", b"\xff\xff\xff\xff", b"  ", b"\n"])
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. ``inputs`` by parser; ``crashes`` are the first twenty."""

    inputs: dict[str, int]
    crashes: list[str]
    slowest_seconds: float
    grown_bytes: int


def fuzz(parsers: Sequence[Parser], inputs: int, seed: int, *, seconds: float) -> Result:
    """Feed the parsers in turn until that many inputs, or that long."""
    chance = random.Random(seed)
    process = psutil.Process()
    counts = {parser.name: 0 for parser in parsers}
    crashes: list[str] = []
    slowest, began, warm = 0.0, time.monotonic(), process.memory_info().rss
    for number in range(inputs):
        parser = parsers[number % len(parsers)]
        data = changed(parser.samples, chance)
        at = time.perf_counter()
        try:
            parser.feed(data)
        except parser.raises:
            pass
        except Exception as error:
            if len(crashes) < 20:
                crashes.append(f"{parser.name}: {error!r} of {data[:200]!r}")
        slowest = max(slowest, time.perf_counter() - at)
        counts[parser.name] += 1
        if number == inputs // 10:  # from here on, what is kept should not grow
            gc.collect()
            warm = process.memory_info().rss
        if number % 1000 == 0 and time.monotonic() - began > seconds:
            break
    gc.collect()
    return Result(counts, crashes, slowest, process.memory_info().rss - warm)


def main() -> None:
    """Run it, and fail when a parser does; the last line is the result as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("status", nargs="?", help="of a running stack; not used")
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = fuzz(PARSERS, given.inputs, given.seed, seconds=SECONDS)
    for crash in result.crashes:
        print(crash, flush=True)
    crashes, slowest = len(result.crashes), result.slowest_seconds
    figures: list[dict[str, Any]] = [
        {"figure": f"inputs, {name}", "value": count, "unit": "inputs"}
        for name, count in result.inputs.items()
    ]
    figures += [
        {"figure": "crashes", "value": crashes, "unit": "", "aim": 0, "met": not crashes},
        {"figure": "slowest input", "value": round(slowest, 4), "unit": "s", "aim": f"<= {SLOW_SECONDS}",
         "met": slowest <= SLOW_SECONDS},
        {"figure": "memory grown", "value": result.grown_bytes, "unit": "B"},
    ]  # fmt: skip
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"name": "fuzz", "figures": figures, "runs": 1, "machine": machine, "seed": given.seed}))
    if crashes or slowest > SLOW_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
