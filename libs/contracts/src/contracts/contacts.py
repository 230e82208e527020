"""Addresses of recipients, in the one canonical form that makes them comparable."""

import string

from email_validator import EmailNotValidError, validate_email

_MAILTO = "mailto:"
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class InvalidAddressError(ValueError):
    """An address that cannot be a recipient. ``code`` is stable (``INVALID_EMAIL``)."""

    code = "INVALID_EMAIL"


def canonical_address(text: str) -> str:
    """The canonical form of an address that a person typed: ``mailto:ann@example.com``.

    ASCII letters are made small and the domain is in its IDNA form (RFC 5891, 6531), so that two spellings of
    one address are one contact. Beyond ASCII nothing is folded but the Unicode normal form (NFC): ``straße``
    and ``strasse`` are mailboxes of two people. An address that is canonical already stays as it is.

    Raises:
        InvalidAddressError: the text is not an e-mail address; the message says why and repeats no more of
            the text than the validator does.
    """
    try:
        valid = validate_email(
            text.strip().removeprefix(_MAILTO), check_deliverability=False, test_environment=True
        )
    except EmailNotValidError as error:
        raise InvalidAddressError(f"This is not an e-mail address: {error}") from None
    return f"{_MAILTO}{valid.local_part.translate(_SMALL)}@{valid.ascii_domain or valid.domain}"


def display_address(canonical: str) -> str:
    """The form a person reads: ``mailto:ann@example.com`` becomes ``ann@example.com``."""
    return canonical.removeprefix(_MAILTO)
