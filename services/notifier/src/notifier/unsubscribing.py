"""The link by which whoever gets a mail turns such mails off (RFC 8058): signed, so that it needs no table,
and without an address. Pure."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

from notifier.planner import Template

_SALT: Final = "latchkey.unsubscribe.v1"


@lru_cache(maxsize=8)
def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256})


def sign(reader: str, templates: Sequence[Template], secret: str) -> str:
    """The token for a reader (`planner.Notice.reader`) and the kinds of notice that his mail was about."""
    return _serializer(secret).dumps([reader, sorted(set(templates))])


def read(token: str, secret: str) -> tuple[str, tuple[Template, ...]] | None:
    """Reader and kinds; None when it was not made by us. It has no end: old mails keep their way out."""
    try:
        content: Any = _serializer(secret).loads(token)
        reader, templates = content
        return str(reader), tuple(Template(item) for item in templates)
    except (BadData, ValueError, TypeError):
        return None
