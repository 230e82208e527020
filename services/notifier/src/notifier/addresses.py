"""Addresses as they stand in the tables. Most are plain: seeing that is much cheaper than all the rules."""

import re
from typing import Final

from contracts.contacts import InvalidAddressError, canonical_address

_PLAIN: Final = re.compile(r"mailto:[a-z0-9]+(?:[._+-][a-z0-9]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}")
_SHORT: Final = 70
"""No part of what is not longer is too long."""


def is_canonical(address: str) -> bool:
    """Whether ``address`` is what `contracts.contacts.canonical_address` makes of it."""
    if len(address) <= _SHORT and _PLAIN.fullmatch(address):
        return True
    try:
        return canonical_address(address) == address
    except InvalidAddressError:
        return False
