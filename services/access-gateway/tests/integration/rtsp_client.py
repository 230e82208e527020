"""An RTSP client that sees everything: answers, the server's own requests, and every frame."""

import asyncio
import base64
import contextlib
import ssl
from collections import Counter
from typing import Self

from access_gateway.protocols.rtsp.messages import OPEN, Reader, Request, Response
from access_gateway.protocols.rtsp.rules import BACKCHANNEL

LIVE, REPLAY, SPEAKER = 0, 2, 4
"""The channels that the streams of these tests are set up on."""


class Person:
    """One connection to the gateway."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, credentials: str
    ) -> None:
        self._reader, self._writer, self.url, self._credentials = reader, writer, url, credentials
        self._answers: asyncio.Queue[Response] = asyncio.Queue()
        self.frames: Counter[int] = Counter()
        self.told: list[Request] = []
        self.broken = False
        self._moved = asyncio.Condition()
        self._sequence = self._said = 0
        self.sessions: dict[int, str] = {}
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def come(cls, port: int, service: str, token: str = "", tls: ssl.SSLContext | None = None) -> Self:
        """Connect; nothing has been asked yet."""
        streams = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
        )
        basic = base64.b64encode(f"viewer:{token}".encode()).decode()
        scheme = "rtsps" if tls else "rtsp"
        return cls(*streams, f"{scheme}://127.0.0.1:{port}/{service}", f"Basic {basic}" if token else "")

    async def _read(self) -> None:
        parser = Reader(bytearray([OPEN] * 256))
        with contextlib.suppress(OSError):
            while data := await self._reader.read(65_536):
                for item in parser.feed(data):
                    self._take(item)
                async with self._moved:
                    self._moved.notify_all()
            async with self._moved:
                self.broken = True
                self._moved.notify_all()
            return
        async with self._moved:
            self.broken = True
            self._moved.notify_all()

    def _take(self, item: Request | Response | bytes) -> None:
        if isinstance(item, Response):
            self._answers.put_nowait(item)
        elif isinstance(item, Request):
            self.told.append(item)
        else:
            while item:
                self.frames[item[1]] += 1
                item = item[4 + int.from_bytes(item[2:4], "big") :]

    def send(self, method: str, url: str, **headers: str) -> None:
        """Ask without waiting for the answer."""
        self._sequence += 1
        given = [("cseq", str(self._sequence)), *((k.replace("_", "-"), v) for k, v in headers.items())]
        if self._credentials:
            given.append(("authorization", self._credentials))
        self._writer.write(Request(tuple(given), method=method, uri=url).encode())

    async def answer(self) -> Response:
        async with asyncio.timeout(20):
            return await self._answers.get()

    async def ask(self, method: str, url: str | None = None, **headers: str) -> Response:
        self.send(method, self.url if url is None else url, **headers)
        return await self.answer()

    async def play(self, stream: str, channel: int, **headers: str) -> int:
        """Describe, set up and play a stream; the first status that is not 200."""
        require = {"require": BACKCHANNEL} if stream == "speaker" else {}
        base = f"{self.url}/{'live' if stream == 'speaker' else stream}/"
        described = await self.ask("DESCRIBE", base, **require)
        if described.status != 200:
            return described.status
        track = 1 if stream == "speaker" else 0
        transport = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        set_up = await self.ask("SETUP", f"{base}track{track}", transport=transport, **require)
        if set_up.status != 200:
            return set_up.status
        self.sessions[channel] = (set_up.one("session") or "").partition(";")[0]
        return (await self.ask("PLAY", base, session=self.sessions[channel], **require, **headers)).status

    def say(self, channel: int = SPEAKER) -> None:
        """Send one packet of sound (RTP, PCMU); a camera that has had its number would drop it."""
        self._said += 1
        text = b"\x80\0" + self._said.to_bytes(2, "big") + bytes(8) + b"\xff" * 160
        self._writer.write(b"$" + bytes([channel]) + len(text).to_bytes(2, "big") + text)

    async def sees(self, channel: int, more: int = 3) -> None:
        """Wait until some more frames have come on a channel."""
        wanted = self.frames[channel] + more
        async with asyncio.timeout(20), self._moved:
            await self._moved.wait_for(lambda: self.frames[channel] >= wanted or self.broken)
        assert not self.broken, "the connection has ended"

    async def ended_of(self, channel: int) -> None:
        """Wait until the stream of a channel is refused, and see that no frame comes of it any more."""
        async with asyncio.timeout(20):
            while (await self.ask("DESCRIBE")).status != 403:  # noqa: ASYNC110 - asked of the gateway
                await asyncio.sleep(0.02)
        seen = self.frames[channel]
        assert (await self.ask("OPTIONS")).status == 200
        await asyncio.sleep(0.3)
        assert self.frames[channel] == seen

    async def ended(self) -> None:
        """Wait until the gateway has closed the connection."""
        async with asyncio.timeout(20), self._moved:
            await self._moved.wait_for(lambda: self.broken)

    def vanish(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()

    async def leave(self) -> None:
        self._task.cancel()
        self._writer.close()
        await asyncio.wait({self._task})
