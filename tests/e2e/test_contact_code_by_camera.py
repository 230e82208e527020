"""A contact code as people use it: drawn by the portal, held before a camera, read in a browser, scanned."""

import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from playwright.async_api import Page, Route, async_playwright

from devstack import seed
from devstack.client import RefusedError
from devstack.world import World

WIDTH, HEIGHT = 640, 480
ROOM = "http://camera.localhost/"  # browsers give a camera to pages of https and of this machine only

Browse = Callable[..., AbstractAsyncContextManager[Page]]

# Both answer a picture of WIDTH x HEIGHT as one byte of brightness for each point, in base64.
GREY = """
  const grey = (context, width, height) => {
    const points = context.getImageData(0, 0, width, height).data;
    let text = '';
    for (let at = 0; at < points.length; at += 4)
      text += String.fromCharCode((points[at] * 77 + points[at + 1] * 150 + points[at + 2] * 29) >> 8);
    return btoa(text);
  };
"""
# A telephone that shows the drawing, held a little askew in a grey room.
HELD = (
    """async ([svg, width, height, degrees]) => {"""
    + GREY
    + """
  const drawing = new Image();
  drawing.src = 'data:image/svg+xml;utf8,' + encodeURIComponent(svg);
  await drawing.decode();
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const context = canvas.getContext('2d');
  context.fillStyle = '#777';
  context.fillRect(0, 0, width, height);
  context.translate(width / 2, height / 2);
  context.rotate(degrees * Math.PI / 180);
  const side = height * 0.7;
  context.fillStyle = '#fff';
  context.fillRect(-side / 2 - 8, -side / 2 - 8, side + 16, side + 16);
  context.drawImage(drawing, -side / 2, -side / 2, side, side);
  return grey(context, width, height);
}"""
)
SEEN = (
    """async () => {"""
    + GREY
    + """
  const video = document.createElement('video');
  video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
  await video.play();
  const [width, height] = [video.videoWidth, video.videoHeight];
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  video.srcObject.getTracks().forEach((track) => track.stop());
  return {width, height, picture: grey(context, width, height)};
}"""
)


@pytest.fixture
def browse(chromium: str) -> Browse:
    """Opens a page in a real browser: ``browse(*switches)``."""

    @asynccontextmanager
    async def opened(*switches: str) -> AsyncGenerator[Page]:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=list(switches))
            try:
                page = await browser.new_page()

                async def empty(route: Route) -> None:
                    await route.fulfill(content_type="text/html", body="<!doctype html><title>Room</title>")

                await page.route(ROOM, empty)
                await page.goto(ROOM)
                yield page
            finally:
                await browser.close()

    return opened


async def filmed(browse: Browse, svg: str, film: Path) -> None:
    """Write what a camera sees that looks at the drawing (YUV4MPEG2, brightness only)."""
    frames: list[bytes] = []
    async with browse() as page:
        for degrees in (-4, -2, 0, 3):
            picture = await page.evaluate(HELD, [svg, WIDTH, HEIGHT, degrees])
            frames.append(base64.b64decode(picture))
    colourless = bytes([128]) * (WIDTH * HEIGHT // 2)
    with film.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420\n" % (WIDTH, HEIGHT))
        for frame in frames:
            file.write(b"FRAME\n" + frame + colourless)


async def seen_by_camera(browse: Browse, film: Path) -> list[str]:
    """The QR codes in the picture that a page gets of the camera."""
    async with browse(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ) as page:
        seen: dict[str, Any] = await page.evaluate(SEEN)
    assert (seen["width"], seen["height"]) == (WIDTH, HEIGHT)
    picture = memoryview(base64.b64decode(seen["picture"])).cast("B", (seen["height"], seen["width"]))
    codes = zxingcpp.read_barcodes(picture)
    return [code.text for code in codes if code.format == zxingcpp.BarcodeFormat.QRCode]


@pytest.mark.slow
async def test_a_code_read_by_a_camera_puts_who_showed_it_into_the_book(
    world: World, browse: Browse, tmp_path: Path
) -> None:
    cat, dan = await world.account("cat@example.test"), await world.account("dan@example.test")
    shown = (await cat.ask("mutation { createContactCode { code svg } }"))["createContactCode"]
    await filmed(browse, shown["svg"], tmp_path / "qr.y4m")
    (text,) = await seen_by_camera(browse, tmp_path / "qr.y4m")
    assert "example.test" not in text
    scan = "mutation($code: String!) { scanContactCode(code: $code) { id name } }"
    scanned = (await dan.ask(scan, code=text))["scanContactCode"]
    assert scanned["name"] == "Cat Ngo"
    book = (await dan.ask("{ login { contacts { id email name } } }"))["login"]["contacts"]
    assert {"id": scanned["id"], "email": "cat@example.test", "name": "Cat Ngo"} in book


@pytest.mark.slow
async def test_a_picture_of_something_else_is_no_contact(
    world: World, browse: Browse, tmp_path: Path
) -> None:
    owner = await world.account(seed.OWNER_EMAIL)
    disc = '<circle cx="45" cy="45" r="40"/>'
    blank = f'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90">{disc}</svg>'
    await filmed(browse, blank, tmp_path / "blank.y4m")
    assert await seen_by_camera(browse, tmp_path / "blank.y4m") == []
    with pytest.raises(RefusedError) as refused:
        await owner.ask('mutation { scanContactCode(code: "https://example.test/") { id } }')
    assert refused.value.code == "INVALID_CONTACT_CODE"
