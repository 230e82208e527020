"""What agents may send, and what becomes of anything else."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.agents import protocol
from access_gateway.agents.protocol import (
    LINE_BYTES,
    Code,
    Data,
    Enrol,
    Failed,
    Lines,
    Login,
    MalformedError,
    Ready,
)

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
HELLO = {"protocol": 1, "key": KEY, "instance": "run-1"}
LOGIN = {"type": "login", "device_id": "cam-1", **HELLO}


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_each_first_line_is_read_and_unknown_fields_are_ignored() -> None:
    assert isinstance(protocol.read_first(line(**LOGIN, later="x")), Login)
    assert isinstance(protocol.read_first(line(type="enrol", code="x", **HELLO)), Enrol)
    assert isinstance(protocol.read_first(line(type="data", token="abc_-9")), Data)
    assert isinstance(protocol.read_answer(line(type="ready")), Ready)
    failed = protocol.read_answer(line(type="failed", reason="unreachable"))
    assert failed == Failed(type="failed", reason="unreachable")


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"{}", b"null", b"[]", b"\xff", b"[" * 5000, b'{"type": "ping"}',
        line(**{**LOGIN, "type": "ready"}),
        line(**{**LOGIN, "protocol": "1"}),
        line(**{**LOGIN, "device_id": "../x"}),
        line(**{**LOGIN, "device_id": None}),
        line(**{**LOGIN, "key": KEY[:-1]}),
        line(**{**LOGIN, "key": KEY + "A"}),
        line(**{**LOGIN, "key": "ß" * 43}),
        line(**{**LOGIN, "instance": "a b"}),
        line(type="data", token="x" * 65),
        line(type="data", token=["x"]),
        line(type="enrol", code="x" * 65, **HELLO),
    ],
)  # fmt: skip
def test_what_is_no_first_line_is_refused_without_repeating_it(bad: bytes) -> None:
    with pytest.raises(MalformedError) as refusal:
        protocol.read_first(bad)
    assert str(refusal.value) == ""


@given(st.binary(max_size=300))
def test_no_bytes_break_a_reader(data: bytes) -> None:
    for read in (protocol.read_first, protocol.read_ping, protocol.read_answer):
        try:
            read(data)
        except MalformedError:
            continue


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(8, 64))
def test_lines_are_the_same_however_they_arrive(pieces: list[bytes], most: int) -> None:
    """Against the plain meaning: split at line feeds; the first line that is too long ends it."""
    lines, found = Lines(most), list[bytes]()
    too_long = False
    for piece in pieces:
        lines.feed(piece)
        try:
            while (one := lines.next()) is not None:
                found.append(one)
        except MalformedError:
            too_long = True
            break
    expected = b"".join(pieces).split(b"\n")
    fitting = list[bytes]()
    for index, one in enumerate(expected):
        if len(one) + 1 > most:
            break
        if index < len(expected) - 1:
            fitting.append(one)
    assert found == fitting
    assert too_long == any(len(one) + 1 > most for one in expected)
    if not too_long:
        assert lines.take() == expected[-1]


def test_a_line_has_a_bound() -> None:
    lines = Lines()
    lines.feed(b"x" * (LINE_BYTES - 1))
    assert lines.next() is None
    lines.feed(b"x")
    with pytest.raises(MalformedError):
        lines.next()


def test_a_code_is_read_as_people_type_it_and_nothing_else_is_one() -> None:
    code = Code.new()
    assert len({Code.new().text for _ in range(100)}) == 100
    typed = Code(f" {code.text.lower().replace('-', ' ')} ")
    assert (typed.selector, typed.secret_hash) == (code.selector, code.secret_hash)
    for wrong in ("", "ABC", code.text[:-1], code.text + "2", code.text[:-1] + "O", "é" * 20):
        with pytest.raises(MalformedError):
            Code(wrong)


def test_a_message_is_one_line_whatever_it_says() -> None:
    for message in (
        protocol.welcome("cam-1", "gw", ["a\nb:1"]),
        protocol.dial("ho\nst", 1),
        protocol.refusal(protocol.Refused.REFUSED, 1.23456),
        protocol.end("t", 5),
        protocol.open_data("t"),
        protocol.gateways([]),
        protocol.pong(),
    ):
        assert message.count(b"\n") == 1
        assert message.endswith(b"\n")
        json.loads(message)
