"""Names that strangers wrote: what of them reaches a mail."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.names import MAX_NAME, UNNAMED, clean, shown

BIDI = "\u202a\u202b\u202d\u202e\u202c\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Front door", "Front door"),
        ("  Front\r\nBcc: eve@example.com\t ", "Front Bcc: eve@example.com"),
        ("Müller & Söhne", "Müller & Söhne"),
        ("cafe\u0301", "café"),
        ("abc\u202egnp.exe", "abcgnp.exe"),
        ("a\u200bb\ufeffc\u2060d", "abcd"),
        ("a\x00b\x1b[31m", "a b [31m"),
        ("line\u2028para\u2029end", "line para end"),
        ("", ""),
        ("\u200d\u200c\u202e", ""),
        ("\u0301\u0302", ""),
        ("👩\u200d👧", "👩\u200d👧"),
        ("x" * 4000, "x" * 59 + "…"),
    ],
)
def test_a_name_is_one_line_of_what_it_shows(written: str, expected: str) -> None:
    assert clean(written) == expected


def test_stacked_marks_are_cut_down() -> None:
    assert len(clean("Z" + "\u0316" * 500)) <= 5


def test_a_joined_emoji_is_not_cut_in_half() -> None:
    cut = clean("a" * 57 + "👩\u200d👧\u200d👦")
    assert cut == "a" * 57 + "…"


@pytest.mark.parametrize(
    "written",
    [
        "https://evil.example/x",
        "www.evil.example",
        "evil.example",
        "eve@evil.example",
        "mailto:eve@evil.example",
    ],
)
def test_nothing_in_a_name_looks_like_an_address_to_a_mail_program(written: str) -> None:
    said = shown(f"Camera {written} now")
    assert written not in said
    assert said.replace("\u200c", "") == f"Camera {written} now"


@pytest.mark.parametrize("written", ["v1.2", "192.168.1.4", "Dr. Ann", "9:30", "a: b", "R&D @ home"])
def test_ordinary_punctuation_stays_as_it_is(written: str) -> None:
    assert shown(written) == written


def test_a_name_of_nothing_is_said_to_be_none() -> None:
    assert shown("\u202e \u200b") == UNNAMED


@settings(deadline=None)  # how long it takes says nothing about it
@given(st.text(max_size=300))
def test_whatever_the_name_it_is_short_visible_and_one_line(written: str) -> None:
    line = clean(written)
    assert len(line) <= MAX_NAME
    assert line == line.strip()
    assert not set(line) & set(BIDI)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp") for char in line)
    assert clean(line) == line


@settings(deadline=None)  # how long it takes says nothing about it
@given(st.text(alphabet="ab.:@/w é\u3002", max_size=80))
def test_no_name_keeps_a_host_name_or_an_address(written: str) -> None:
    said = shown(written)
    assert not any(
        left.isalnum() and dot in ".\u3002\u2024" and right.isalpha()
        for left, dot, right in zip(said, said[1:], said[2:], strict=False)
    )
