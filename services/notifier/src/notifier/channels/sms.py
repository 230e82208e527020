"""SMS: one message of at most 160 characters of the GSM alphabet, through a provider's HTTP adapter.

The adapter is ``POST <url>`` with a bearer token and ``{"to", "from", "text", "key"}``; ``key`` is the same
for the same message, so that a provider can drop what it was given twice. 2xx: taken. 429 and 5xx: later.
404 and 422: the number takes no message. Other 4xx: never.
"""

import unicodedata
from typing import Final

import httpx

from notifier.channels.answers import deferred, post
from notifier.errors import DeferredError, RefusedError

MAX_SEPTETS: Final = 160
_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("^{}\\[~]|€")
_PLAIN: Final = {
    "\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2013": "-", "\u2014": "-",
    "\u2026": "...",
}  # fmt: skip


def septets(text: str) -> int | None:
    """How long ``text`` is in the GSM alphabet (3GPP TS 23.038); None when it has other characters."""
    if not all(char in _BASIC or char in _EXTENDED for char in text):
        return None
    return sum(2 if char in _EXTENDED else 1 for char in text)


def spelled(text: str) -> str:
    """``text`` in the GSM alphabet: accents that it lacks fall off, what else it lacks is left out."""
    kept: list[str] = []
    for char in text:
        for part in (char, _PLAIN.get(char, ""), unicodedata.normalize("NFKD", char)):
            usable = "".join(item for item in part if item in _BASIC or item in _EXTENDED)
            if usable:
                kept.append(usable)
                break
    return " ".join("".join(kept).split())


class SmsChannel:
    """Hands messages to the provider."""

    def __init__(self, client: httpx.AsyncClient, *, url: str, token: str, sender: str) -> None:
        self._client, self._url, self._token, self._sender = client, url, token, sender

    async def send(self, number: str, text: str, key: str) -> None:
        """Hand over ``text`` to ``number`` (E.164).

        Raises:
            DeferredError: ``SMS_DEFERRED``, ``SMS_UNREACHABLE``, ``SMS_SETUP`` (the provider refuses us).
            RefusedError: ``RECIPIENT_REFUSED``; ``SMS_REFUSED``: this message will never be taken.
        """
        length = septets(text)
        if length is None or length > MAX_SEPTETS:
            raise RefusedError("SMS_REFUSED", "The text does not fit into one message.")
        answer = await post(
            self._client,
            self._url,
            "SMS_UNREACHABLE",
            json={"to": number, "from": self._sender, "text": text, "key": key},
            headers={"Authorization": f"Bearer {self._token}", "Idempotency-Key": key},
        )
        status = answer.status_code
        if answer.is_success:
            return
        if status in {404, 422}:
            raise RefusedError("RECIPIENT_REFUSED", "The number takes no message.", status, gone=True)
        if status in {401, 402, 403}:
            raise DeferredError("SMS_SETUP", "The provider refuses us: mend the settings.", status)
        if status in {408, 429} or status >= 500:
            raise deferred("SMS_DEFERRED", answer)
        raise RefusedError("SMS_REFUSED", "The provider refuses the message.", status)
