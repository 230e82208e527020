"""Addresses, permissions, positions and links mean what they say."""

from datetime import UTC, datetime, timedelta
from unicodedata import normalize
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.contacts import InvalidAddressError, canonical_address, display_address
from contracts.links import InvalidLinkError, InvitationLink, read_link, sign_link
from contracts.permissions import AllServices, Permission, PermissionSet, SomeServices, Terms, granted
from contracts.positions import Position, format_positions, parse_positions

P = Permission
CAMERA = frozenset({P.LIVE_VIEW, P.PLAYBACK, P.PTZ})
SECRET = "a-secret-of-at-least-32-characters"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("ann@example.com", "mailto:ann@example.com"),
        ("  Ann.Keller@EXAMPLE.com ", "mailto:ann.keller@example.com"),
        ("mailto:ann@example.com", "mailto:ann@example.com"),
        ("ann@bücher.example.com", "mailto:ann@xn--bcher-kva.example.com"),
        ("ann@xn--bcher-kva.example.com", "mailto:ann@xn--bcher-kva.example.com"),
        ("ann+tag@example.com", "mailto:ann+tag@example.com"),
        ("STRAße@example.com", "mailto:straße@example.com"),
        ("\u017farah@example.com", "mailto:\u017farah@example.com"),
        ("\ufb01ona@example.com", "mailto:\ufb01ona@example.com"),
        ("Ärger@example.com", "mailto:Ärger@example.com"),
        ("a\u0308rger@example.com", "mailto:ärger@example.com"),
    ],
)
def test_two_spellings_of_one_address_are_one_contact(typed: str, canonical: str) -> None:
    assert canonical_address(typed) == canonical
    assert canonical_address(canonical) == canonical
    assert canonical_address(display_address(canonical)) == canonical


local_parts = st.text(
    st.sampled_from("sSkKfi\u017f\ufb01ßẞßKİI\u0131Ää\u0308ς\u03c3Σ"), min_size=1, max_size=4
)


@given(local_parts, local_parts)
def test_mailboxes_that_differ_beyond_ascii_stay_two(one: str, other: str) -> None:
    def mailbox(local: str) -> str:
        ascii_small = "".join(char.lower() if char.isascii() else char for char in normalize("NFC", local))
        return normalize("NFC", ascii_small)

    try:
        addresses = {canonical_address(f"{local}@example.com") for local in (one, other)}
    except InvalidAddressError:
        return
    assert len(addresses) == len({mailbox(one), mailbox(other)})


@pytest.mark.parametrize(
    "typed", ["", "ann", "ann@", "@example.com", "a b@example.com", "ann@example.com\r\nBcc: x@y.z"]
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(InvalidAddressError) as refusal:
        canonical_address(typed)
    assert refusal.value.code == "INVALID_EMAIL"


@pytest.mark.parametrize(
    ("terms", "service", "expected"),
    [
        (Terms(scope=AllServices()), "s1", CAMERA),
        (Terms(scope=AllServices(permissions=frozenset({P.PTZ, P.ARM}))), "s1", {P.PTZ}),
        (Terms(scope=SomeServices(services={"s1": "all"})), "s1", CAMERA),
        (Terms(scope=SomeServices(services={"s1": "all"})), "s2", set[Permission]()),
        (Terms(scope=SomeServices(services={"s1": frozenset({P.LIVE_VIEW})})), "s1", {P.LIVE_VIEW}),
        (Terms(scope=SomeServices(services={"s1": "all"}), scripting=True), "s1", CAMERA | {P.SCRIPTING}),
        (Terms(scope=SomeServices(services={"s1": "all"}), scripting=True), "s2", set[Permission]()),
    ],
)
def test_what_terms_give_on_a_service(terms: Terms, service: str, expected: set[Permission]) -> None:
    assert granted(terms, service, CAMERA) == expected


ALL: PermissionSet = "all"
permission_sets = st.just(ALL) | st.frozensets(
    st.sampled_from([p for p in Permission if p is not P.SCRIPTING]), min_size=1
)


@given(permission_sets, st.booleans(), st.frozensets(st.sampled_from(list(Permission))))
def test_nothing_is_granted_that_the_service_cannot_do(
    permissions: PermissionSet, scripting: bool, supported: frozenset[Permission]
) -> None:
    terms = Terms(scope=AllServices(permissions=permissions), scripting=scripting)
    assert granted(terms, "s1", supported) - {P.SCRIPTING} <= supported
    assert (P.SCRIPTING in granted(terms, "s1", supported)) == scripting


def test_scripting_is_no_permission_of_a_service_and_no_share_is_empty() -> None:
    with pytest.raises(ValidationError, match="scripting"):
        AllServices(permissions=frozenset({P.SCRIPTING}))
    with pytest.raises(ValidationError):
        SomeServices(services={})
    with pytest.raises(ValidationError):
        AllServices(permissions=frozenset())


def test_positions_travel_in_a_header() -> None:
    positions = [Position("80:00:00:00:01:00:00:01", 7), Position("cam-1", 0)]
    assert format_positions(positions) == "80:00:00:00:01:00:00:01@7, cam-1@0"
    assert parse_positions(format_positions(positions)) == positions
    assert parse_positions("") == []


@pytest.mark.parametrize(
    "text", ["cam-1", "cam-1@", "@7", "cam-1@07", "cam-1@-1", "cam 1@7", "cam-1@7@8", "cam@9" + "9" * 20]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        Position.parse(text)


def link(ends_at: datetime = NOW + timedelta(days=30)) -> InvitationLink:
    share, contact = UUID(int=1), UUID(int=2)
    return InvitationLink(
        share_id=share,
        device_id="d",
        contact_id=contact,
        invitation_version=3,
        purpose="accept",
        ends_at=ends_at,
    )


def test_a_link_says_what_was_signed_until_it_ends() -> None:
    assert read_link(sign_link(link(), SECRET), SECRET, NOW) == link()
    with pytest.raises(InvalidLinkError):
        read_link(sign_link(link(ends_at=NOW), SECRET), SECRET, NOW)
    with pytest.raises(InvalidLinkError):
        read_link(sign_link(link(), "another-secret-of-32-characters-xx"), SECRET, NOW)


@given(st.data())
def test_an_altered_link_is_no_link(data: st.DataObject) -> None:
    token = sign_link(link(), SECRET)
    index = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from([c for c in "ABab01._-%" if c != token[index]]))
    altered = token[:index] + other + token[index + 1 :]
    if index == len(token) - 1:  # the last character of base64 carries bits that are not read
        return
    with pytest.raises(InvalidLinkError):
        read_link(altered, SECRET, NOW)


@given(st.text(max_size=80))
def test_random_text_is_no_link(text: str) -> None:
    with pytest.raises(InvalidLinkError):
        read_link(text, SECRET, NOW)


@pytest.mark.parametrize("blank", ["\u00a0", "\u0085", "\u2003", "\n"])
def test_positions_have_no_white_space_around_that_a_header_cannot_hold(blank: str) -> None:
    for text in (f"{blank}cam-1@7", f"cam-1@7{blank}", f"cam-1@7,{blank}"):
        with pytest.raises(ValueError, match="form"):
            parse_positions(text)
    assert parse_positions(" cam-1@7\t, ") == [Position("cam-1", 7)]
