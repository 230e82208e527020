"""The demo camera's clips are those that the encoder makes.

Run as a program, this writes them again: ``.venv/bin/python tools/devstack/tests/test_camera_clips.py``.
"""

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import SupportsBytes

import av
import pytest
from av.video.frame import VideoFrame

from devstack.camera_picture import CLIPS, RATE, clip

FILES = Path(__file__).parents[1] / "src/devstack/clips"
WIDTH, HEIGHT = 320, 240
PICTURES = 3 * RATE


def shade(number: int) -> int:
    """The brightness of a clip's ground, of 255: neighbours differ well."""
    return (40 + 50 * number) % 256


def picture(number: int, count: int) -> VideoFrame:
    """One picture of a clip: a bar in front of the ground."""
    frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
    bar = count * WIDTH // PICTURES
    for index, plane in enumerate(frame.planes):
        line = bytearray([shade(number) if index == 0 else 128] * plane.line_size)
        if index == 0:
            line[bar : bar + 24] = bytes([255 - shade(number)] * len(line[bar : bar + 24]))
        plane.update(bytes(line) * plane.height)
    frame.pts = count
    return frame


def encoded(number: int) -> bytes:
    """A clip, with one slice for each picture."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.framerate, codec.gop_size, codec.max_b_frames = Fraction(RATE), RATE, 0
    codec.thread_count = 1
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    encode: Callable[[VideoFrame | None], list[SupportsBytes]] = codec.encode  # pyright: ignore
    frames = [*(picture(number, count) for count in range(PICTURES)), None]
    return b"".join(bytes(packet) for frame in frames for packet in encode(frame))


def decoded(stream: bytes) -> Iterator[bytes]:
    """What a player shows: the brightness of every point, picture by picture."""
    with av.open(io.BytesIO(stream), "r", format="h264") as file:
        for frame in file.decode(video=0):
            yield bytes(frame.planes[0])


@pytest.mark.parametrize("number", range(CLIPS))
def test_a_clip_shows_what_the_encoder_was_given(number: int) -> None:
    shown = list(decoded((FILES / f"{number}.h264").read_bytes()))
    assert shown == list(decoded(encoded(number)))
    assert len(shown) == PICTURES == len(clip(number).pictures)
    assert abs(shown[0][WIDTH * HEIGHT // 2 + 300] - shade(number)) < 5


if __name__ == "__main__":
    for each in range(CLIPS):
        (FILES / f"{each}.h264").write_bytes(encoded(each))
