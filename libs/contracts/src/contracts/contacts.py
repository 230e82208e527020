"""Addresses of recipients, in the one canonical form that makes them comparable."""

import re
import string

import phonenumbers
from email_validator import EmailNotValidError, validate_email

_MAILTO, _TEL = "mailto:", "tel:"
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PHONE = re.compile(r"\+?[0-9\uFF10-\uFF19()\[\] ./\u00a0\u2010-\u2015-]+")


class InvalidAddressError(ValueError):
    """An address that cannot be a recipient. ``code`` is stable: ``INVALID_EMAIL`` or ``INVALID_PHONE``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def canonical_address(text: str) -> str:
    """The canonical form of an address that a person typed: ``mailto:ann@example.com``, ``tel:+49151123456``.

    Of an e-mail address, ASCII letters are made small and the domain is in its IDNA form (RFC 5891, 6531), so
    that two spellings of one address are one contact. Beyond ASCII nothing is folded but the Unicode normal
    form (NFC): ``straße`` and ``strasse`` are mailboxes of two people. A telephone number is written with its
    country code (ITU-T E.164), with any of the usual separators. An address that is canonical already stays
    as it is.

    Raises:
        InvalidAddressError: the text is neither; the message says why and repeats no more of the text than
            the validator does.
    """
    text = text.strip()
    if text.startswith(_TEL) or _PHONE.fullmatch(text):
        return _canonical_phone(text.removeprefix(_TEL))
    try:
        valid = validate_email(text.removeprefix(_MAILTO), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise InvalidAddressError("INVALID_EMAIL", f"This is not an e-mail address: {error}") from None
    return f"{_MAILTO}{valid.local_part.translate(_SMALL)}@{valid.ascii_domain or valid.domain}"


def _canonical_phone(text: str) -> str:
    if not text.lstrip().startswith("+"):
        raise InvalidAddressError(
            "INVALID_PHONE", "This telephone number lacks its country code. Write it as +49 151 12345678."
        )
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or number.extension or not phonenumbers.is_possible_number(number):
        raise InvalidAddressError(
            "INVALID_PHONE", "This is not a telephone number: no country has numbers of this form."
        )
    return _TEL + phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def is_phone(canonical: str) -> bool:
    """Whether a canonical address is a telephone number."""
    return canonical.startswith(_TEL)


def display_address(canonical: str) -> str:
    """The form a person reads: ``ann@example.com``, ``+4915112345678``."""
    return canonical.removeprefix(_MAILTO).removeprefix(_TEL)
