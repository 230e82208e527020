"""What stands in the mail, and that nobody's input changes its form."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Literal, cast
from uuid import UUID

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.links import read_link
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from notifier import wording
from notifier.channels.email import Letter, build_message, message_id, recipient_address, subject_line
from notifier.errors import RefusedError
from notifier.letters import Renderer
from notifier.planner import Invitation, Notice, Template
from notifier.settings import parse_sender
from notifier.texts import Told
from notifier.unsubscribing import read as read_unsubscribing

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
    sharer_address: str | None = "mailto:ann@example.com",
    template: Template = Template.INVITATION,
    expires_at: datetime | None = None,
) -> Letter:
    one = told(
        sharer, device, terms, services=services, sharer_address=sharer_address, template=template,
        expires_at=expires_at,
    )  # fmt: skip
    return render([one], address=address)


def told(
    sharer: str | None = "Ann Example",
    device: str | None = "Front door",
    terms: Terms = ALL,
    *,
    services: dict[str, str] | None = None,
    sharer_address: str | None = "mailto:ann@example.com",
    template: Template = Template.INVITATION,
    expires_at: datetime | None = None,
    number: int = 1,
    account_id: str | None = None,
    state: Literal["requested", "accepted", "ended"] = "requested",
) -> Told:
    invitation = Invitation(
        share_id=UUID(int=number),
        device_id="cam-1",
        contact_id=UUID(int=2),
        owner_account_id="ann",
        state=state,
        version=3,
        announced_version=3,
        expires_at=expires_at,
        terms=terms,
    )
    notice = Notice(
        event_id=UUID(int=number),
        contact_id=UUID(int=2),
        account_id=account_id,
        template=template,
        share_id=UUID(int=number),
        device_id="cam-1",
        owner_account_id="ann",
        version=3,
        event_time=NOW,
    )
    return Told(
        notice=notice,
        invitation=invitation,
        sharer_name=sharer,
        sharer_address=sharer_address,
        recipient_address="mailto:bob@example.com",
        device_name=device,
        service_names=services or {},
    )


def render(
    items: list[Told], *, address: str = "mailto:bob@example.com", language: str | None = None
) -> Letter:
    return RENDERER.letter(items, address=address, language=language, key="k", correlation_id="c-1")


def parsed(one: Letter) -> EmailMessage:
    """The message as its reader gets it."""
    return message_from_bytes(
        build_message(one, SENDER, recipient_address(one.recipient), NOW), policy=policy.default
    )


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
    assert in_text == in_html[:-1]
    links = [read_link(url.rsplit("/", 1)[1], SECRET, NOW) for url in in_text]
    assert [link.purpose for link in links] == ["accept", "reject"]
    for link in links:
        assert (link.share_id, link.device_id, link.contact_id) == (UUID(int=1), "cam-1", UUID(int=2))
        assert link.invitation_version == 3
        assert link.ends_at == NOW + timedelta(days=30)


def test_links_end_with_the_invitation_and_the_mail_says_so() -> None:
    one = letter(expires_at=NOW + timedelta(days=2))
    for url in re.findall(r"https://share\.example\.com/invitations/\S+", one.text):
        assert read_link(url.rsplit("/", 1)[1], SECRET, NOW).ends_at == NOW + timedelta(days=2)
    assert "until 3 March 2026" in one.text


def test_it_says_when_a_share_begins_and_ends() -> None:
    east = timezone(timedelta(hours=2))
    window = {
        "starts_at": datetime(2026, 3, 2, 9, tzinfo=east),
        "ends_at": datetime(2026, 3, 6, 17, 30, tzinfo=UTC),
    }
    one = letter(terms=ALL.model_copy(update=window))
    assert "- When: from 2 March 2026, 07:00 UTC until 6 March 2026, 17:30 UTC\n" in one.text
    in_html = re.sub(r"<[^>]+>", "", one.html)
    assert "from 2 March 2026, 07:00 UTC until 6 March 2026, 17:30 UTC" in in_html
    only_end = letter(terms=ALL.model_copy(update={"ends_at": window["ends_at"]}))
    assert "- When: until 6 March 2026, 17:30 UTC\n" in only_end.text
    assert "When" not in letter().text


def test_the_headers_tell_who_wrote_it_and_that_a_machine_did() -> None:
    mail = parsed(letter())
    assert mail["From"] == "Latchkey <no-reply@example.com>"
    assert mail["To"] == "bob@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Latchkey-Correlation-Id"] == "c-1"
    assert mail["Message-ID"] == message_id("k", "example.com") != message_id("l", "example.com")
    assert mail["Date"].datetime == NOW
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = mail["List-Unsubscribe"].strip("<>")
    assert url.startswith("https://share.example.com/unsubscribe/")
    assert read_unsubscribing(url.rsplit("/", 1)[1], SECRET) == (str(UUID(int=2)), (Template.INVITATION,))
    assert url in part(mail, "plain")
    assert url in Page(part(mail, "html")).links
    assert mail["Feedback-ID"] == "invitation:notice:latchkey"
    assert mail.get_content_type() == "multipart/alternative"
    assert [item.get_content_type() for item in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_adds_no_header_no_markup_and_no_link(name: str) -> None:
    plain = parsed(letter())
    terms = Terms(scope=SomeServices(services={"s1": "all"}))
    calm = Page(letter(terms=terms, services={"s1": "SSH"}, sharer_address=None).html)
    mail = parsed(letter(name, name, terms, services={"s1": name}, sharer_address=name))
    page = Page(part(mail, "html"))
    assert mail.keys() == plain.keys()
    assert mail["To"] == "bob@example.com"
    structure = [tag for tag in calm.tags if tag not in {"bdi", "p"}]
    assert [tag for tag in page.tags if tag not in {"bdi", "p"}] == structure
    assert {name for name, _ in page.attributes} == {name for name, _ in calm.attributes}
    assert len(page.links) == 3
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
    assert not re.findall(r"https?://(?!share\.example\.com/)[^\s\"<]+", letter().html)


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
    one = letter(address="mailto:bjørn@example.com")
    raw = build_message(one, SENDER, recipient_address(one.recipient), NOW)
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
    assert len(Page(part(mail, "html")).links) == 3
    raw = build_message(letter(sharer, device), SENDER, recipient_address("mailto:bob@example.com"), NOW)
    assert all(len(line) <= 998 for line in raw.split(b"\n"))


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("template", Template)
def test_every_notice_can_be_said_with_all_names_and_with_none(template: Template, language: str) -> None:
    for one in (
        told(template=template),
        told(template=template, state="accepted", account_id="bob"),
        told(None, None, template=template, sharer_address=None, state="ended"),
    ):
        mail = parsed(render([one], language=language))
        for text in (mail["Subject"], part(mail, "plain"), part(mail, "html")):
            assert "%(" not in text
            assert "None" not in text
        assert mail["Subject"]
    assert render([told(template=template)], language="de-AT").subject != letter(template=template).subject


def test_many_notices_are_one_mail_that_lists_each_device_with_a_way_to_decide() -> None:
    items = [told(device=f"Camera {number}", number=number) for number in range(1, 31)]
    mail = parsed(render(items))
    assert mail["Subject"] == "Ann Example wants to share 30 devices with you"
    text = part(mail, "plain")
    links = re.findall(r"https://share\.example\.com/invitations/(\S+)", text)
    assert [read_link(token, SECRET, NOW).share_id for token in links] == [UUID(int=n) for n in range(1, 26)]
    assert "Camera 25" in text
    assert "Camera 26" not in text
    assert "and 5 more" in text
    mixed = render([told(), told(device="Gate", number=2, template=Template.REVOKED, account_id="bob")])
    assert mixed.subject == "News about what Ann Example shares with you"
    assert "Ann Example no longer shares Gate with you" in mixed.text


def test_every_language_says_everything() -> None:
    source = Path(wording.__file__).parent
    keywords = {"say": None, "say_n": (1, 2), "marked": None}
    found = extract_from_dir(source, [("**.py", "python")], keywords=keywords)
    wanted = {message for _, _, message, _, _ in found}
    assert len(wanted) > 60, "the search finds too little"
    for file in (source / "locale").glob("*.po"):
        said: set[object] = set()
        for message in read_po(BytesIO(file.read_bytes()), locale=file.stem):
            ids, texts = _parts(message.id), _parts(message.string)
            if not message.id or message.fuzzy or not all(texts):
                continue
            said.add(message.id)
            names = set(re.findall(r"%\(\w+\)s", " ".join(ids)))
            for text in texts:
                assert set(re.findall(r"%\(\w+\)s", text)) <= names, f"{file.name}: {text}"
        assert not wanted - said, f"{file.name} lacks: {sorted(map(str, wanted - said))}"
        assert not said - wanted, f"{file.name} has what nobody says: {sorted(map(str, said - wanted))}"


def _parts(value: object) -> tuple[str, ...]:
    """A text, or its singular and plural."""
    return (
        tuple(map(str, cast("Sequence[object]", value))) if isinstance(value, tuple | list) else (str(value),)
    )
