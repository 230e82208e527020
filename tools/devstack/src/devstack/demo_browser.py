"""A browser without a screen: follows links and redirects, keeps cookies, sends forms as they stand."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

from devstack.demo_story import Unexpected


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, its hidden fields, and its named buttons."""

    action: str
    fields: dict[str, str] = field(default_factory=dict[str, str])
    buttons: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


class Page(HTMLParser):
    """What a person finds on a page: words, links and forms."""

    def __init__(self, html: str, url: str = "") -> None:
        super().__init__()
        self.url = url
        self.words = ""
        self.forms: list[Form] = []
        self._links: list[tuple[str, str]] = []
        self._link: str | None = None
        self._link_words = ""
        self._hidden = 0
        self.feed(html)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the start of a link, form, field or button."""
        values = {name: value or "" for name, value in attrs}
        match tag:
            case "style" | "script" | "title":
                self._hidden += 1
            case "a":
                self._link, self._link_words = values.get("href"), ""
            case "form":
                self.forms.append(Form(values.get("action", "")))
            case "input" if self.forms and values.get("name"):
                self.forms[-1].fields[values["name"]] = values.get("value", "")
            case "button" if self.forms and values.get("name"):
                self.forms[-1].buttons.append((values["name"], values.get("value", "")))
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a link."""
        if tag in {"style", "script", "title"}:
            self._hidden -= 1
        elif tag == "a" and self._link is not None:
            self._links.append((" ".join(self._link_words.split()), self._link))
            self._link = None

    def handle_data(self, data: str) -> None:
        """Note words."""
        if not self._hidden:
            self.words += data
            self._link_words += data

    def link(self, words: str) -> str:
        """Where the link that begins with ``words`` goes; raises `Unexpected` when there is none."""
        for text, href in self._links:
            if text.startswith(words):
                return urljoin(self.url, href)
        raise Unexpected(f"A link “{words}” was expected; the page says: {self.excerpt()}")

    def form(self, name: str, value: str) -> Form:
        """The form with the button ``name=value``; raises `Unexpected` when there is none."""
        for form in self.forms:
            if (name, value) in form.buttons:
                return form
        raise Unexpected(f"A button “{value}” was expected; the page says: {self.excerpt()}")

    def excerpt(self) -> str:
        """Its first words."""
        return self.words[:300] or "nothing"


class Browser:
    """One person's browser. An async context manager."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=True, timeout=20, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def open(self, url: str) -> Page:
        """Open an address; raises `Unexpected` when it is no page."""
        return _page(await self._client.get(url))

    async def press(self, page: Page, name: str, value: str) -> Page:
        """Press the button ``name=value`` of ``page``; raises `Unexpected` when that leads to no page."""
        form = page.form(name, value)
        here = urlsplit(page.url)
        return _page(
            await self._client.post(
                urljoin(page.url, form.action),
                data={**form.fields, name: value},
                headers={"Origin": f"{here.scheme}://{here.netloc}"},
            )
        )


def _page(answer: httpx.Response) -> Page:
    page = Page(answer.text, str(answer.url))
    if not answer.is_success:
        raise Unexpected(f"A page was expected, HTTP {answer.status_code} came: {page.excerpt()}")
    return page
