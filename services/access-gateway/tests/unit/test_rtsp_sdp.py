"""Descriptions are read as they are meant, and written without what a person may not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.protocols.rtsp import sdp
from access_gateway.protocols.rtsp.sdp import Direction, UnreadableError

CAMERA = b"""v=0
o=admin 17 3 IN IP4 192.168.7.7
s=Gate camera of Mr Secret
i=north gate
u=http://192.168.7.7/
e=admin@example.test
c=IN IP4 192.168.7.7
b=AS:5000
t=0 0
a=tool:maker 1.2
a=range:npt=now-
a=control:*
a=x-home:http://192.168.7.7/home
m=video 0 RTP/AVP 96
c=IN IP4 224.1.1.1
b=AS:4000
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42001f
a=recvonly
a=control:rtsp://192.168.7.7:554/live/trackID=1
m=audio 0 RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=control:trackID=2
m=audio 0 RTP/AVP 8
a=rtpmap:8 PCMA/8000
a=control:trackID=3
a=SendOnly
m=application 0 RTP/AVP 107
a=sendrecv
a=control:trackID=4
"""


def all_of(description: sdp.Description) -> bytes:
    return sdp.write(description, lambda index: (f"track{index}", description.media[index].direction))


def test_media_and_their_directions() -> None:
    media = sdp.read(CAMERA).media
    assert [medium.direction for medium in media] == [
        Direction.FROM_DEVICE,
        Direction.FROM_DEVICE,
        Direction.TO_DEVICE,
        Direction.FROM_DEVICE | Direction.TO_DEVICE,
    ]
    assert media[0].control == "rtsp://192.168.7.7:554/live/trackID=1"


def test_what_is_written_shows_nothing_of_the_camera() -> None:
    written = all_of(sdp.read(CAMERA))
    for secret in (b"192.168", b"224.1", b"Secret", b"north", b"admin", b"http", b"maker", b"trackID"):
        assert secret not in written
    assert b"o=- 17 3 IN IP4 0.0.0.0\r\n" in written
    assert b"a=fmtp:96 packetization-mode=1;profile-level-id=42001f\r\n" in written
    assert b"m=video 0 RTP/AVP 96\r\n" in written


def test_media_can_be_taken_out_and_narrowed() -> None:
    told = {0: ("track0", Direction.FROM_DEVICE), 3: ("track3", Direction.FROM_DEVICE)}
    written = sdp.read(sdp.write(sdp.read(CAMERA), told.get))
    assert [(each.control, each.direction) for each in written.media] == [*told.values()]


@pytest.mark.parametrize(
    ("session", "medium", "direction"),
    [
        ("a=sendonly\n", "", Direction.TO_DEVICE),
        ("a=sendonly\n", "a=recvonly\n", Direction.FROM_DEVICE),
        ("", "a=recvonly\na=sendonly\n", Direction.FROM_DEVICE | Direction.TO_DEVICE),
        ("", "a=inactive\n", Direction.NONE),
        ("", "a= sendonly \n", Direction.TO_DEVICE),
        ("", "a=sendonly:\n", Direction.TO_DEVICE),
    ],
)
def test_a_back_channel_is_known_however_it_is_written(
    session: str, medium: str, direction: Direction
) -> None:
    text = f"v=0\n{session}m=audio 0 RTP/AVP 0\n{medium}"
    assert [each.direction for each in sdp.read(text.encode()).media] == [direction]


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"m=video 0 RTP/AVP 96", b"v=0\nsomething", b"v=0\na=x\x00y", b"v=0\n" + b"a=x\n" * 3000,
     b"v=0\n" + b"m=video 0 RTP/AVP 96\n" * 33],
)  # fmt: skip
def test_what_is_no_description(text: bytes) -> None:
    with pytest.raises(UnreadableError):
        sdp.read(text)


lines = st.sampled_from(
    [*CAMERA.decode().splitlines(), "a=control:a=b:c", "m=", "m=audio 0 RTP/AVP 0 x", "a="]
)


@given(
    st.binary(max_size=400)
    | st.lists(lines | st.text(max_size=20)).map(lambda found: "\n".join(found).encode())
)
def test_no_bytes_break_it(text: bytes) -> None:
    try:
        description = sdp.read(text)
    except UnreadableError:
        return
    written = all_of(description)
    again = sdp.read(written)
    assert all_of(again) == written
    assert b"192.168" not in written.replace(b"a=fmtp", b"")
