"""The demo camera: RTSP (RFC 2326) in one TCP connection, with a live picture, recordings and a loudspeaker.

``/ch<n>/live`` shows the picture of channel n, ``/ch<n>/recording`` plays what was recorded when a ``Range``
with ``clock=`` says from when. Whoever requires ONVIF's back channel is offered a loudspeaker, which counts
what it is told.
"""

import asyncio
import re
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from devstack import camera_picture
from devstack.camera_picture import CLOCK, PAYLOAD_TYPE, RATE

BACKCHANNEL: Final = "www.onvif.org/ver20/backchannel"

_METHODS: Final = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER"
_PATH: Final = re.compile(r"rtsp://[^/]+/ch(\d+)/(live|recording)(?:/(video|speaker))?/?(?:\?[^ ]*)?")
_INTERLEAVED: Final = re.compile(r"RTP/AVP/TCP;.*?interleaved=(\d+)-(\d+)", re.IGNORECASE)
_DOLLAR: Final = b"$"
_FULL_BYTES: Final = 1_000_000
"""A viewer who has so much before him does not get the next picture."""


@dataclass(eq=False, slots=True)
class _Session:
    name: str
    clip: camera_picture.Clip
    recorded: bool
    tracks: dict[str, int] = field(default_factory=dict[str, int])
    """The channel of ``video`` and of ``speaker``, if set up."""
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task = None


def _clip(channel: int, stream: str) -> camera_picture.Clip:
    return camera_picture.clip(channel + (2 if stream == "recording" else 0))


class Camera:
    """All viewers of the camera, and what they had of it."""

    def __init__(self) -> None:
        self.heard = 0
        """Bytes that came to the loudspeaker."""
        self.requests: list[str] = []
        """The last requests, as ``METHOD path``."""
        self.watched: Counter[str] = Counter()
        """Pictures sent, by stream: ``live``, ``recording``."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one viewer to his end."""
        try:
            await _Viewer(self, reader, writer).serve()
        finally:
            writer.close()


class _Viewer:
    def __init__(self, camera: Camera, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._camera, self._reader, self._writer = camera, reader, writer
        self._sessions: dict[str, _Session] = {}

    async def serve(self) -> None:
        try:
            while True:
                first = await self._reader.readexactly(1)
                if first == _DOLLAR:
                    await self._frame()
                elif first not in b"\r\n":
                    head = first + await self._reader.readuntil(b"\r\n\r\n")
                    await self._answer(head.decode("utf-8", "replace"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # he is gone, or speaks something else
        finally:
            for session in self._sessions.values():
                session.stop()

    async def _frame(self) -> None:
        head = await self._reader.readexactly(3)
        data = await self._reader.readexactly(int.from_bytes(head[1:], "big"))
        if any(session.tracks.get("speaker") == head[0] for session in self._sessions.values()):
            self._camera.heard += len(data)

    async def _answer(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, _, rest = first.partition(" ")
        url = rest.partition(" ")[0]
        body = int(headers.get("content-length", "0") or 0)
        await self._reader.readexactly(min(body, 65_536))
        found = _PATH.fullmatch(url)
        self._camera.requests = [
            *self._camera.requests[-99:],
            f"{method} {url.partition('//')[2].partition('/')[2]}",
        ]
        status, more, text = "404 Not Found", list[str](), ""
        if method == "OPTIONS":
            status, more = "200 OK", [f"Public: {_METHODS}"]
        elif method not in _METHODS:
            status = "501 Not Implemented"
        elif found is not None:
            status, more, text = self._do(method, url, found, headers)
        reply = [
            f"RTSP/1.0 {status}",
            f"CSeq: {headers.get('cseq', '0')}",
            "Server: Latchkey demo camera",
            *more,
        ]
        if text:
            reply += ["Content-Type: application/sdp", f"Content-Length: {len(text)}"]
        self._writer.write("\r\n".join([*reply, "", text]).encode())
        await self._writer.drain()

    def _do(
        self, method: str, url: str, found: re.Match[str], headers: dict[str, str]
    ) -> tuple[str, list[str], str]:
        channel, stream, track = int(found[1]), found[2], found[3]
        if method == "DESCRIBE":
            speaker = BACKCHANNEL in headers.get("require", "")
            return "200 OK", [f"Content-Base: {url}/"], _description(_clip(channel, stream), speaker=speaker)
        session = self._sessions.get(headers.get("session", "").partition(";")[0])
        if method == "SETUP":
            return self._set_up(session, channel, stream, track, headers.get("transport", ""))
        if session is None:
            return "454 Session Not Found", [], ""
        named = [f"Session: {session.name}"]
        if method == "PLAY":
            if session.recorded and not headers.get("range", "").startswith("clock="):
                return "457 Invalid Range", named, ""
            session.stop()
            session.task = asyncio.create_task(self._play(session, stream))
            base = url.removesuffix("/").removesuffix("/video")
            return "200 OK", [*named, f"RTP-Info: url={base}/video;seq=0;rtptime=0"], ""
        if method == "PAUSE":
            session.stop()
        elif method == "TEARDOWN":
            self._tear_down(session, track)
        return "200 OK", named, ""

    def _set_up(
        self, session: _Session | None, channel: int, stream: str, track: str | None, transport: str
    ) -> tuple[str, list[str], str]:
        wanted = _INTERLEAVED.search(transport)
        if wanted is None or track is None:
            return "461 Unsupported Transport", [], ""
        if session is None:
            session = _Session(secrets.token_hex(8), _clip(channel, stream), stream == "recording")
            self._sessions[session.name] = session
        session.tracks[track] = int(wanted[1])
        chosen = f"Transport: RTP/AVP/TCP;unicast;interleaved={wanted[1]}-{wanted[2]}"
        return "200 OK", [chosen, f"Session: {session.name};timeout=60"], ""

    def _tear_down(self, session: _Session, track: str | None) -> None:
        session.tracks.pop(track or "", None)
        if track is None or not session.tracks:
            self._sessions.pop(session.name)
        if "video" not in session.tracks or track is None:
            session.stop()

    async def _play(self, session: _Session, stream: str) -> None:
        source, sequence, number = secrets.randbits(32), 0, 0
        channel = session.tracks.get("video")
        while channel is not None and not self._writer.is_closing():
            picture = session.clip.pictures[number % len(session.clip.pictures)]
            if self._writer.transport.get_write_buffer_size() < _FULL_BYTES:
                for packet in camera_picture.packets(picture, sequence, number * CLOCK // RATE, source):
                    self._writer.write(_DOLLAR + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)
                    sequence += 1
                self._camera.watched[stream] += 1
            number += 1
            await asyncio.sleep(1 / RATE)


def _description(clip: camera_picture.Clip, *, speaker: bool) -> str:
    lines = [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=Latchkey demo camera",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
    ]
    lines += [
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} H264/{CLOCK}",
        f"a=fmtp:{PAYLOAD_TYPE} {clip.parameters}",
        f"a=framerate:{RATE}",
        "a=recvonly",
        "a=control:video",
    ]
    if speaker:
        lines += ["m=audio 0 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendonly", "a=control:speaker"]
    return "\r\n".join([*lines, ""])
