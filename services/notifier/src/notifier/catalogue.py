"""The languages of notices: English as it stands in the code, others as one file each,
``locale/<language>.po``."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Final

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from markupsafe import Markup, escape

SOURCE: Final = "en"
_NAME: Final = Markup("<bdi>{}</bdi>")


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


class Voice:
    """Says things in one language, as plain text or as HTML.

    In HTML everything is escaped, and names stand in ``<bdi>``, so that their direction changes nothing
    around them.
    """

    def __init__(self, language: str, *, html: bool) -> None:
        self.language, self._html = language, html
        self._words = catalogues()[language]
        self._locale = Locale.parse(language)

    def say(self, message: str, /, **names: str) -> str:
        """``message`` in this language; ``names`` are put where it says ``%(name)s``."""
        return self._filled(self._words.gettext(message), names)

    def say_n(self, one: str, many: str, count: int, /, **names: str) -> str:
        """``one`` or ``many`` by ``count``, in this language; ``%(count)s`` is the number."""
        return self._filled(self._words.ngettext(one, many, count), {**names, "count": str(count)})

    def name(self, text: str) -> str:
        """A name by itself."""
        return _NAME.format(text) if self._html else text

    def joined(self, separator: str, parts: Sequence[str]) -> str:
        """What was said, one after the other."""
        return Markup(escape(separator)).join(parts) if self._html else separator.join(parts)  # noqa: S704 - escaped

    def date(self, moment: datetime) -> str:
        """A day in UTC: ``3 March 2026``."""
        return format_date(
            moment.astimezone(UTC), self._words.gettext(marked("d MMMM y")), locale=self._locale
        )

    def moment(self, moment: datetime) -> str:
        """A time: ``3 March 2026, 07:00 UTC``."""
        pattern = self._words.gettext(marked("d MMMM y, HH:mm 'UTC'"))
        return format_datetime(moment.astimezone(UTC), pattern, locale=self._locale)

    def _filled(self, text: str, names: Mapping[str, str]) -> str:
        if not self._html:
            return text % names if names else text.replace("%%", "%")
        return Markup(escape(text)) % {key: _NAME.format(value) for key, value in names.items()}  # noqa: S704 - escaped
