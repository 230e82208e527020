"""Players and cameras of others: GStreamer with ONVIF's back channel, on both sides, and ffprobe."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rtsp_client import LIVE, SPEAKER

from access_gateway.protocols.rtsp.rules import BACKCHANNEL

if TYPE_CHECKING:
    from rtsp_site import Site

HERE = Path(__file__).parent
SYSTEM_PYTHON = "/usr/bin/python3"


def has_gstreamer() -> bool:
    code = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return not subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False).returncode
    except OSError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_gstreamer(), reason="GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) is absent"
    ),
]


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncGenerator[asyncio.StreamReader]:
    """What a program prints, while the block runs."""
    running = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert running.stdout is not None
    try:
        yield running.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


@pytest.fixture
async def camera(site: "Site") -> AsyncGenerator[asyncio.StreamReader]:
    """A camera called ``gst``, and what its loudspeaker prints."""
    async with program(SYSTEM_PYTHON, str(HERE / "gstreamer_camera.py")) as said:
        async with asyncio.timeout(20):
            port = int(await said.readline())
        await site.world.camera("gst", ("127.0.0.1", port), "/cam", None)
        yield said


async def hears(said: asyncio.StreamReader, more: int) -> None:
    """Wait until the loudspeaker has been told so much more often."""
    async with asyncio.timeout(30):
        for _ in range(more):
            assert await said.readline()


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is absent")
async def test_ffprobe_sees_the_picture_and_no_back_channel(site: "Site", camera: object) -> None:
    del camera
    await site.world.share("gst", "ann", '["live_view"]')
    url = f"rtsp://viewer:{await site.password('gst')}@127.0.0.1:{site.port}/gst-svc"
    asked = (
        "-v",
        "error",
        "-rtsp_transport",
        "tcp",
        "-show_entries",
        "stream=codec_name,width",
        "-of",
        "csv=p=0",
    )
    async with program("ffprobe", *asked, url) as told, asyncio.timeout(40):
        assert (await told.read()).decode().split() == ["h264,160"]


async def test_a_player_talks_to_the_camera_until_that_is_revoked(
    site: "Site", camera: asyncio.StreamReader
) -> None:
    await site.world.share("gst", "ann")
    url = f"rtsp://127.0.0.1:{site.port}/gst-svc"
    talker = (SYSTEM_PYTHON, str(HERE / "gstreamer_talker.py"), url, await site.password("gst"))
    async with program(*talker) as told:
        async with asyncio.timeout(30):
            assert await told.readline() == b"talking\n"
        await hears(camera, 5)
        await site.world.narrow("gst", '["live_view", "playback"]')
        async with asyncio.timeout(30):
            while await heard_more(camera):  # what was under way
                pass


async def heard_more(said: asyncio.StreamReader) -> bool:
    """Whether the loudspeaker is told anything within a second and a half."""
    try:
        async with asyncio.timeout(1.5):
            return bool(await said.readline())
    except TimeoutError:
        return False


async def test_two_way_audio_goes_on_without_the_picture_and_the_picture_without_it(
    site: "Site", camera: asyncio.StreamReader
) -> None:
    await site.world.share("gst", "ann")
    person = await site.person("gst")
    assert (await person.ask("DESCRIBE", require=BACKCHANNEL)).status == 200
    session: dict[str, str] = {}
    for track, channel in enumerate((LIVE, SPEAKER)):
        transport = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        url = f"{person.url}/live/track{track}"
        set_up = await person.ask("SETUP", url, transport=transport, require=BACKCHANNEL, **session)
        session = {"session": (set_up.one("session") or "").partition(";")[0]}
    assert (await person.ask("PLAY", f"{person.url}/live/", require=BACKCHANNEL, **session)).status == 200
    await person.sees(LIVE)
    for _ in range(40):
        person.say()
        await asyncio.sleep(0.02)
    await hears(camera, 5)
    other = await site.person("gst")
    assert await other.play("live", LIVE) == 200
    await other.sees(LIVE)
    await site.world.narrow("gst", '["two_way_audio"]')
    await other.ended_of(LIVE)
    while await heard_more(camera):
        pass
    for _ in range(40):
        person.say()
        await asyncio.sleep(0.02)
    await hears(camera, 5)
