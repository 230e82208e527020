"""Text that strangers wrote (names of people, devices, services), made fit to be shown in a mail. Pure."""

import re
import unicodedata
from functools import lru_cache

MAX_NAME = 60
UNNAMED = "(no name)"

_NON_JOINER, _JOINER = "\u200c", "\u200d"
_MAX_MARKS = 4
# What mail programs turn into links by themselves: a scheme, an address, a host name.
_LINKABLE = re.compile(r"(?<=[^\W\d_]):(?=\S)|(?<=\S)@(?=\S)|(?<=\w)[.\u3002\u2024](?=[^\W\d_])")


def clean(text: str, limit: int = MAX_NAME) -> str:
    """One line of at most ``limit`` characters that shows what it holds, or an empty string.

    Line breaks and other control characters become spaces; characters that reorder, hide or stack text
    (bidi controls, zero-width ones, unassigned ones, more than four combining marks in a row) are dropped.
    """
    kept: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFC", text[: limit * 20]):
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category in ("Cc", "Zs", "Zl", "Zp"):
            kept.append(" ")
        elif (category[0] == "C" and char not in (_NON_JOINER, _JOINER)) or marks > _MAX_MARKS:
            continue
        else:
            kept.append(char)
    line = " ".join("".join(kept).split()).strip(_NON_JOINER + _JOINER + " ")
    if not any(unicodedata.category(char)[0] in "LNPS" for char in line):
        return ""
    if len(line) <= limit:
        return line
    end = limit - 1
    while end > 1 and (unicodedata.category(line[end])[0] == "M" or _JOINER in line[end - 1 : end + 1]):
        end -= 1  # never cut a letter from its marks, nor a joined emoji
    return line[:end].rstrip() + "…"


@lru_cache(maxsize=2000)
def shown(text: str, limit: int = MAX_NAME) -> str:
    """`clean`, and such that no mail program makes a link of any part of it; never empty.

    An invisible non-joiner after ``:``, ``@`` and dots inside words breaks what looks like an address, and a
    copy of it leads nowhere.
    """
    return _LINKABLE.sub(lambda match: match[0] + _NON_JOINER, clean(text, limit)) or UNNAMED
