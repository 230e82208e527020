"""What stands in the mail, and that nobody's input changes its form."""

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.links import read_link
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from notifier.channels.email import Letter, build_message, message_id, recipient_address, subject_line
from notifier.errors import RefusedError
from notifier.letters import Facts, Renderer
from notifier.planner import Invitation, Template
from notifier.settings import parse_sender

SECRET = "a-secret-for-tests-of-forty-characters-xx"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SENDER = parse_sender("Latchkey <no-reply@example.com>")
RENDERER = Renderer(public_url="https://share.example.com", link_secret=SECRET)
ALL = Terms(scope=AllServices())
HOSTILE = (
    "<script>alert(1)</script>",
    "</title><img src=https://evil.example/x.png>",
    '" onmouseover="x',
    "{{ accept_url }}{% raw %}",
    "\r\nBcc: eve@example.com\r\n\r\nbody",
    "\u202egnp.exe",
    "https://evil.example/invitations/x",
    "x" * 4096,
    "",
)


def letter(
    sharer: str = "Ann Example",
    device: str = "Front door",
    terms: Terms = ALL,
    *,
    services: dict[str, str] | None = None,
    address: str = "mailto:bob@example.com",
    sharer_address: str | None = "ann@example.com",
    template: Template = Template.INVITATION,
) -> Letter:
    invitation = Invitation(
        share_id=UUID(int=1),
        device_id="cam-1",
        contact_id=UUID(int=2),
        owner_account_id="ann",
        state="requested",
        version=3,
        announced_version=3,
        terms=terms,
    )
    facts = Facts(
        address=address,
        sharer_name=sharer,
        sharer_address=sharer_address,
        device_name=device,
        service_names=services or {},
        terms=terms,
    )
    return RENDERER.invitation(
        facts, invitation, template=template, key="k", event_time=NOW, correlation_id="c-1"
    )


def parsed(one: Letter) -> EmailMessage:
    """The message as its reader gets it."""
    return message_from_bytes(build_message(one, SENDER, NOW).as_bytes(), policy=policy.default)


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))  # pyright: ignore[reportArgumentType] - plain or html
    assert body is not None
    return str(body.get_content())


class Page(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    @property
    def links(self) -> list[str]:
        return [value or "" for name, value in self.attributes if name == "href"]


def test_it_names_the_sharer_and_the_device_and_says_what_it_allows() -> None:
    terms = Terms(
        scope=SomeServices(services={"s1": frozenset({Permission.LIVE_VIEW, Permission.PTZ}), "s2": "all"}),
        scripting=True,
    )
    mail = parsed(letter(terms=terms, services={"s1": "Porch", "s2": "SSH"}))
    assert mail["Subject"] == "Ann Example wants to share Front door with you"
    for text in (part(mail, "plain"), re.sub(r"<[^>]+>", "", part(mail, "html"))):
        for word in ("Ann Example", "ann@example.com", "Front door", "Porch", "watch live, move the camera"):
            assert word in text
        for sentence in (
            "SSH",
            "everything it can do",
            "run scripts",
            "until you confirm",
            "If you do not know",
        ):
            assert sentence in text


def test_all_services_and_those_added_later_are_said_in_words() -> None:
    assert "All its services, also those added later: everything they can do" in letter().text


def test_a_changed_invitation_says_that_it_replaces_the_earlier_one() -> None:
    one = letter(template=Template.INVITATION_CHANGED)
    assert "changed" in one.subject
    assert "this one replaces it" in one.text
    assert "this one replaces it" in one.html


def test_both_parts_carry_an_accept_and_a_reject_link_that_verify_for_30_days() -> None:
    mail = parsed(letter())
    in_text = re.findall(r"https://share\.example\.com/invitations/\S+", part(mail, "plain"))
    in_html = Page(part(mail, "html")).links
    assert in_text == in_html
    links = [read_link(url.rsplit("/", 1)[1], SECRET, NOW) for url in in_text]
    assert [link.purpose for link in links] == ["accept", "reject"]
    for link in links:
        assert (link.share_id, link.device_id, link.contact_id) == (UUID(int=1), "cam-1", UUID(int=2))
        assert link.invitation_version == 3
        assert link.ends_at == NOW + timedelta(days=30)


def test_the_headers_tell_who_wrote_it_and_that_a_machine_did() -> None:
    mail = parsed(letter())
    assert mail["From"] == "Latchkey <no-reply@example.com>"
    assert mail["To"] == "bob@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Latchkey-Correlation-Id"] == "c-1"
    assert mail["Message-ID"] == message_id("k", "example.com") != message_id("l", "example.com")
    assert mail["Date"].datetime == NOW
    assert mail.get_content_type() == "multipart/alternative"
    assert [item.get_content_type() for item in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_adds_no_header_no_markup_and_no_link(name: str) -> None:
    plain = parsed(letter())
    terms = Terms(scope=SomeServices(services={"s1": "all"}))
    calm = Page(letter(terms=terms, services={"s1": "SSH"}).html)
    mail = parsed(letter(name, name, terms, services={"s1": name}, sharer_address=name))
    page = Page(part(mail, "html"))
    assert mail.keys() == plain.keys()
    assert mail["To"] == "bob@example.com"
    without_address = [tag for tag in calm.tags if tag != "bdi"]
    assert [tag for tag in page.tags if tag != "bdi"] == without_address
    assert {name for name, _ in page.attributes} == {name for name, _ in calm.attributes}
    assert len(page.links) == 2
    for text in (mail["Subject"], part(mail, "plain"), part(mail, "html")):
        assert "evil.example" not in text
        assert "x" * 100 not in text
        assert "\u202e" not in text


def test_nothing_is_loaded_from_anywhere() -> None:
    page = Page(letter().html)
    assert not {"img", "script", "link", "iframe", "object"} & set(page.tags)
    assert not {"src", "background", "srcset"} & {name for name, _ in page.attributes}
    assert "url(" not in letter().html
    assert "@import" not in letter().html


def test_a_long_list_of_services_is_counted_not_listed() -> None:
    terms = Terms(scope=SomeServices(services={f"s{number}": "all" for number in range(500)}))
    assert "and 488 more services" in letter(terms=terms).text


def test_a_service_without_a_name_is_shown_by_its_id() -> None:
    assert "- s1: everything" in letter(terms=Terms(scope=SomeServices(services={"s1": "all"}))).text


@pytest.mark.parametrize(
    "address",
    [
        "tel:+4915112345678",
        "mailto:",
        "mailto:bob",
        "mailto:bob@example.com\r\nBcc: eve@example.com",
        "mailto:bob@example.com, eve@example.com",
        "mailto:Bob <bob@example.com>",
        "bob@example.com",
    ],
)
def test_an_address_that_no_mail_can_go_to_is_refused(address: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        recipient_address(address)
    assert refusal.value.code == "UNSUPPORTED_ADDRESS"
    assert "example.com" not in str(refusal.value)


def test_an_address_beyond_ascii_keeps_its_letters() -> None:
    raw = build_message(letter(address="mailto:bjørn@example.com"), SENDER, NOW).as_bytes()
    assert "To: bjørn@example.com".encode() in raw


@settings(deadline=None)  # how long it takes says nothing about it
@given(st.text(max_size=400))
def test_a_subject_is_one_bounded_line_of_printable_text(text: str) -> None:
    line = subject_line(text)
    assert len(line) <= 200
    assert line.isprintable()


@settings(deadline=None)  # how long it takes says nothing about it
@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_the_names_the_mail_has_the_same_headers_and_two_links(sharer: str, device: str) -> None:
    mail = parsed(letter(sharer, device))
    assert mail.keys() == parsed(letter()).keys()
    assert not mail.defects
    assert len(Page(part(mail, "html")).links) == 2
    assert all(
        len(line) <= 998
        for line in build_message(letter(sharer, device), SENDER, NOW).as_bytes().split(b"\n")
    )
