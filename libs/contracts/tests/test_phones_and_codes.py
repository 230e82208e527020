"""Telephone numbers as recipients, and contact codes."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.contacts import InvalidAddressError, canonical_address, display_address, is_phone
from contracts.links import (
    ContactCode,
    InvalidLinkError,
    read_code,
    read_link,
    sign_code,
)

SECRET = "a-secret-of-at-least-32-characters"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CODE = ContactCode(account_id="auth0|ann", ends_at=NOW + timedelta(minutes=10))


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("+4915112345678", "tel:+4915112345678"),
        ("+49 151 12345678", "tel:+4915112345678"),
        (" +49 (151) 1234-5678 ", "tel:+4915112345678"),
        ("+49.151.123.456.78", "tel:+4915112345678"),
        ("+49 (0)151 12345678", "tel:+4915112345678"),
        ("tel:+4915112345678", "tel:+4915112345678"),
        ("+1 415-555-2671", "tel:+14155552671"),
        ("+44 20 7946 0958", "tel:+442079460958"),
        ("\uff0b\uff14\uff1915112345678".replace("\uff0b", "+"), "tel:+4915112345678"),
    ],
)
def test_two_spellings_of_one_number_are_one_contact(typed: str, canonical: str) -> None:
    assert canonical_address(typed) == canonical
    assert canonical_address(canonical) == canonical
    assert canonical_address(display_address(canonical)) == canonical
    assert is_phone(canonical)
    assert not is_phone(canonical_address("ann@example.com"))


@pytest.mark.parametrize(
    "typed",
    ["0151 12345678", "15112345678", "+49", "+0 151 12345678", "+999 1234567", "tel:110", "tel:"],
)
def test_what_is_no_number_is_refused(typed: str) -> None:
    with pytest.raises(InvalidAddressError) as refused:
        canonical_address(typed)
    assert refused.value.code == "INVALID_PHONE"
    digits = "".join(filter(str.isdigit, typed))
    assert not digits or digits not in str(refused.value).replace("+49 151 12345678", "")


@given(st.text(st.sampled_from("+0123456789 ()-./;extab@\uff11\u0661"), max_size=24))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        canonical = canonical_address(text)
    except InvalidAddressError as refused:
        assert refused.code in ("INVALID_PHONE", "INVALID_EMAIL")
    else:
        assert canonical_address(canonical) == canonical
        if is_phone(canonical):
            number = canonical.removeprefix("tel:+")
            assert number.isascii()
            assert number.isdigit()
            assert len(number) <= 15, "E.164"


def test_a_code_says_whose_it_is_until_it_ends() -> None:
    text = sign_code(CODE, SECRET)
    assert read_code(text, SECRET, NOW) == CODE
    assert read_code(text, SECRET, CODE.ends_at - timedelta(microseconds=1)) == CODE
    with pytest.raises(InvalidLinkError):
        read_code(text, SECRET, CODE.ends_at)
    with pytest.raises(InvalidLinkError):
        read_code(text, "another-secret-of-32-characters-xx", NOW)


def test_a_code_holds_no_address() -> None:
    payload = sign_code(CODE, SECRET).split(".")[0]
    said = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    assert set(ContactCode.model_validate_json(said).model_dump()) == {"account_id", "ends_at"}
    assert "@" not in said
    assert "mailto" not in said


def test_a_code_is_no_link() -> None:
    with pytest.raises(InvalidLinkError):
        read_link(sign_code(CODE, SECRET), SECRET, NOW)


@given(st.data())
def test_an_altered_code_is_no_code(data: st.DataObject) -> None:
    text = sign_code(CODE, SECRET)
    index = data.draw(st.integers(0, len(text) - 2))  # the last character carries bits that are not read
    other = data.draw(st.sampled_from([letter for letter in "ABab01._-%" if letter != text[index]]))
    with pytest.raises(InvalidLinkError):
        read_code(text[:index] + other + text[index + 1 :], SECRET, NOW)


@given(st.text(max_size=80))
def test_random_text_is_no_code(text: str) -> None:
    with pytest.raises(InvalidLinkError):
        read_code(text, SECRET, NOW)
