"""The header ``Range`` (RFC 2326, section 12.29): whether the present is asked for, or some other time."""

import re
from typing import Final, NamedTuple

_RANGE: Final = re.compile(
    r"(npt|clock|smpte[0-9a-z-]*)\s*=\s*([0-9A-Za-z:.+-]{1,64})(?:\s*;\s*time=[0-9TZ.]+)?", re.IGNORECASE
)
_PRESENT: Final = re.compile(r"(?:now|0+(?:\.0*)?)-", re.IGNORECASE)


class Span(NamedTuple):
    """What is asked for. ``text`` is the header; None: there was none, and it goes on where it was."""

    text: str | None
    unit: str
    value: str

    @property
    def is_present(self) -> bool:
        """Whether it is what a live stream plays anyway."""
        return self.text is None or (self.unit == "npt" and _PRESENT.fullmatch(self.value) is not None)

    @property
    def names_now(self) -> bool:
        """Whether it begins now, whatever is recorded."""
        return self.value.startswith("now")


def read(header: str | None) -> Span | None:
    """Read the header; None: it cannot be read, or asks for several times."""
    if header is None:
        return Span(None, "", "")
    found = _RANGE.fullmatch(header)
    return None if found is None else Span(header, found[1].lower(), found[2].lower())
