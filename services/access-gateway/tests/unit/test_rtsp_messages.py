"""RTSP is read alike however its bytes are cut, within bounds, and nothing is read two ways."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.protocols.rtsp import messages
from access_gateway.protocols.rtsp.messages import (
    CLOSED,
    OPEN,
    REPORTS_ONLY,
    MalformedError,
    Reader,
    RepeatedError,
    Request,
    Response,
    is_report,
)

PLAY = b"PLAY rtsp://gateway/cam/live/ RTSP/1.0\r\nCSeq: 4\r\nSession: 12\r\n\r\n"
RECEIVER_REPORT = bytes.fromhex("80c90001") + b"\0\0\0\1"
GATES = bytearray([OPEN, REPORTS_ONLY, CLOSED, *[CLOSED] * 253])


def frame(channel: int, payload: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(payload).to_bytes(2, "big") + payload


def read(data: bytes, *cuts: int) -> tuple[list[Request | Response], bytes, int]:
    """Messages, the bytes of frames that pass, and how many did not, of data that comes cut there."""
    reader = Reader(bytearray(GATES))
    found: list[Request | Response] = []
    passed = b""
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        for item in reader.feed(data[start:end]):
            if isinstance(item, bytes):
                passed += item
            else:
                found.append(item)
    return found, passed, reader.dropped_frames


def test_messages_and_frames_are_told_apart() -> None:
    data = frame(0, b"video") + PLAY + frame(2, b"secret") + frame(0, b"") + b"\r\n" + PLAY
    found, passed, dropped = read(data)
    assert [item.one("cseq") for item in found] == ["4", "4"]
    assert passed == frame(0, b"video") + frame(0, b"")
    assert dropped == 1


def test_what_may_pass_in_a_row_passes_in_one_piece() -> None:
    row = frame(0, b"a" * 1400) * 20
    reader = Reader(bytearray(GATES))
    assert list(reader.feed(row + b"$\0")) == [row]


def test_a_gate_that_closes_holds_for_the_frames_behind_the_message_that_closed_it() -> None:
    reader = Reader(bytearray(GATES))
    passed: list[bytes] = []
    for item in reader.feed(frame(0, b"before") + PLAY + frame(0, b"after")):
        if isinstance(item, bytes):
            passed.append(item)
        else:
            reader.gates[0] = CLOSED
    assert passed == [frame(0, b"before")]


@pytest.mark.parametrize(
    ("packet", "reports"),
    [
        (RECEIVER_REPORT, True),
        (RECEIVER_REPORT * 2, True),
        (b"", False),
        (b"\x80\0\0\1" + b"\0" * 160, False),  # sound
        (bytes.fromhex("80cc0001") + b"ptz!", False),  # APP
        (RECEIVER_REPORT + bytes.fromhex("80cc0001") + b"ptz!", False),
        (RECEIVER_REPORT + b"\0", False),
        (bytes.fromhex("80c9ffff"), False),
    ],
)
def test_only_reports_pass_where_only_reports_may(packet: bytes, reports: bool) -> None:
    assert is_report(packet) is reports
    assert read(frame(1, packet))[1] == (frame(1, packet) if reports else b"")


pieces = st.one_of(
    st.builds(frame, st.sampled_from([0, 0, 1, 2, 255]), st.binary(max_size=40)),
    st.sampled_from([PLAY, b"\r\n", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nabc"]),
)


@given(st.lists(pieces, max_size=8).map(b"".join), st.data())
def test_where_the_bytes_are_cut_changes_nothing(data: bytes, source: st.DataObject) -> None:
    cuts = source.draw(st.lists(st.integers(0, len(data)), max_size=12))
    assert read(data, *cuts) == read(data) == read(data, *range(len(data)))


@given(st.binary(max_size=300) | st.lists(pieces | st.binary(max_size=9), max_size=9).map(b"".join))
def test_no_bytes_break_it(data: bytes) -> None:
    try:
        whole = read(data)
    except MalformedError:
        with pytest.raises(MalformedError):
            read(data, *range(len(data)))
    else:
        assert read(data, *range(len(data))) == whole


def test_what_is_kept_is_bounded() -> None:
    reader = Reader(bytearray(GATES))
    dice = random.Random(1)
    stream = b"".join(frame(0, b"x" * dice.randrange(65_536)) for _ in range(100))
    passed, position, most = 0, 0, 0
    while position < len(stream):
        piece = stream[position : position + dice.randrange(1, 30_000)]
        position += len(piece)
        passed += sum(len(item) for item in reader.feed(piece) if isinstance(item, bytes))
        most = max(most, reader.kept)
    assert (passed, reader.kept) == (len(stream), 0)
    assert 60_000 < most <= 65_535 + 4
    endless = Reader(bytearray(GATES))
    with pytest.raises(MalformedError):
        for _ in range(10_000):
            assert list(endless.feed(b"Header: value\r\n")) == []
            assert endless.kept <= messages.MOST_HEAD_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"PLAY rtsp://a/b RTSP/1.0\nCSeq: 1\n\n\r\n\r\n",  # lines end with both
        b"PLAY rtsp://a/b RTSP/1.0\r\nCSeq: 1\rX: y\r\n\r\n",
        b"PLAY rtsp://a/b\x00 RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"PLAY  rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"PLAY rtsp://a/b RTSP/1.0 x\r\nCSeq: 1\r\n\r\n",
        b"PLAY rtsp://a/b HTTP/1.1\r\nCSeq: 1\r\n\r\n",
        b"PL AY rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"PLAY rtsp://a/b RTSP/1.0\r\nCSeq : 1\r\n\r\n",
        b"PLAY rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n Session: 2\r\n\r\n",
        b"PLAY rtsp://a/b RTSP/1.0\r\nno colon\r\n\r\n",
        b"PLAY rtsp://a/b RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"PLAY rtsp://a/b RTSP/1.0\r\nContent-Length: +1\r\n\r\na",
        b"PLAY rtsp://a/b RTSP/1.0\r\nContent-Length: -1\r\n\r\na",
        b"PLAY rtsp://a/b RTSP/1.0\r\nContent-Length: 0x1\r\n\r\na",
        b"PLAY rtsp://a/b RTSP/1.0\r\nContent-Length: 1, 1\r\n\r\na",
        b"PLAY rtsp://a/b RTSP/1.0\r\nContent-Length: 99999\r\n\r\na",
        b"PLAY rtsp://a/b RTSP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PLAY rtsp://a/b RTSP/1.0\r\n" + b"a: b\r\n" * 65 + b"\r\n",
        b"RTSP/2.0 200 OK\r\n\r\n",
        b"RTSP/1.0 999 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"A" * 20_000,
    ],
)
def test_what_could_be_read_two_ways_is_not_read(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


def test_a_body_is_read_with_its_message() -> None:
    found, _, _ = read(
        b"SET_PARAMETER rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\ncontent-length: 4\r\n\r\nPLAY" + PLAY
    )
    assert [(item.body, type(item)) for item in found] == [(b"PLAY", Request), (b"", Request)]


def test_a_header_that_stands_twice_has_no_value() -> None:
    request = Request((("session", "1"), ("session", "2")), method="PLAY", uri="rtsp://a/b")
    with pytest.raises(RepeatedError):
        request.one("session")


def test_what_is_written_is_read_again() -> None:
    request = Request((("cseq", "3"),), b"v=0", method="ANNOUNCE", uri="rtsp://a/b")
    response = Response((("cseq", "3"), ("www-authenticate", 'Basic realm="x"')), status=461)
    found, _, _ = read(request.encode() + response.encode())
    assert [item.body for item in found] == [b"v=0", b""]
    assert response.encode().startswith(
        b"RTSP/1.0 461 Unsupported Transport\r\nCSeq: 3\r\nWWW-Authenticate: "
    )
    assert messages.VERSION == "RTSP/1.0"
