"""The languages of notices: English as it stands in the code, others as one file each,
``locale/<language>.po``."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import resources
from io import BytesIO
from typing import Final

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from markupsafe import Markup, escape

SOURCE: Final = "en"


@cache
def catalogues() -> Mapping[str, NullTranslations]:
    """All languages there are, by code."""
    found: dict[str, NullTranslations] = {SOURCE: NullTranslations()}
    for file in resources.files("notifier").joinpath("locale").iterdir():
        language, _, kind = file.name.partition(".")
        if kind == "po":
            compiled = BytesIO()
            write_mo(compiled, read_po(BytesIO(file.read_bytes()), locale=language))
            compiled.seek(0)
            found[language] = Translations(compiled)
    return found


def spoken(language: str | None) -> str:
    """The language that there is for one that somebody asked for (BCP 47): it, its base, or English."""
    base = (language or SOURCE).replace("_", "-").partition("-")[0].lower()
    return base if base in catalogues() else SOURCE


def marked(message: str) -> str:
    """``message``, which some `Voice` will say: so that whoever collects texts to translate finds it."""
    return message


@lru_cache(maxsize=1000)
def _written(moment: datetime, pattern: str, locale: Locale) -> str:
    """A time as ``pattern`` has it. Many mails say the same one."""
    return format_datetime(moment, pattern, locale=locale)


class Voice:
    """Says things in one language, as plain text or as HTML.

    In HTML everything is escaped, and names stand in ``<bdi>``, so that their direction changes nothing
    around them.
    """

    def __init__(self, language: str, *, html: bool) -> None:
        self.language, self._html = language, html
        self._words = catalogues()[language]
        self._locale = Locale.parse(language)
        self._said: dict[str, str] = {}

    @staticmethod
    @cache
    def of(language: str, *, html: bool) -> "Voice":
        """The one of a language (`spoken`)."""
        return Voice(language, html=html)

    def say(self, message: str, /, **names: str) -> str:
        """``message`` in this language; ``names`` are put where it says ``%(name)s``: what `name` made as it
        is, and anything else by `name`."""
        text = self._said.get(message)
        if text is None:
            text = self._said[message] = self._escaped(self._words.gettext(message))
        return self._filled(text, names)

    def say_n(self, one: str, many: str, count: int, /, **names: str) -> str:
        """``one`` or ``many`` by ``count``, in this language; ``%(count)s`` is the number."""
        text = self._escaped(self._words.ngettext(one, many, count))
        return self._filled(text, {**names, "count": str(count)})

    def name(self, text: str) -> str:
        """A name by itself."""
        return Markup(f"<bdi>{escape(text)}</bdi>") if self._html else text  # noqa: S704 - escaped

    def joined(self, separator: str, parts: Sequence[str]) -> str:
        """What was said, one after the other."""
        return Markup(escape(separator)).join(parts) if self._html else separator.join(parts)  # noqa: S704 - escaped

    def date(self, moment: datetime) -> str:
        """A day in UTC: ``3 March 2026``."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return _written(day, self._words.gettext(marked("d MMMM y")), self._locale)

    def moment(self, moment: datetime) -> str:
        """A time: ``3 March 2026, 07:00 UTC``."""
        pattern = self._words.gettext(marked("d MMMM y, HH:mm 'UTC'"))
        minute = moment.astimezone(UTC).replace(second=0, microsecond=0)
        return _written(minute, pattern, self._locale)

    def _escaped(self, text: str) -> str:
        return str(escape(text)) if self._html else text

    def _filled(self, text: str, names: Mapping[str, str]) -> str:
        """``text``, which is escaped, with ``names``, which are not yet unless `name` made them."""
        if self._html:
            names = {
                key: value if isinstance(value, Markup) else self.name(value) for key, value in names.items()
            }
        filled = text % names if names else text.replace("%%", "%")
        return Markup(filled) if self._html else filled  # noqa: S704 - escaped
