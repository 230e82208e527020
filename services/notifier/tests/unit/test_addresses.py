"""A plain address is seen to be canonical without all the rules, and is so by all the rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.contacts import InvalidAddressError, canonical_address
from notifier.addresses import is_canonical


def by_all_rules(address: str) -> bool:
    try:
        return canonical_address(address) == address
    except InvalidAddressError:
        return False


@settings(deadline=None, max_examples=300)  # how long it takes says nothing about it
@given(
    st.text("abz09._+-@", max_size=70),
    st.lists(st.text("ab9-", min_size=1, max_size=66), min_size=1, max_size=4),
    st.sampled_from(["de", "example", "a", "x9", "com "]),
)
def test_it_is_what_all_the_rules_say(local: str, labels: list[str], last: str) -> None:
    address = f"mailto:{local}@{'.'.join([*labels, last])}"
    assert is_canonical(address) == by_all_rules(address)


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("mailto:ann@example.com", True),
        ("mailto:a.b+c_d-e@a-b.example.co", True),
        ("tel:+4915112345678", True),
        ("mailto:bjørn@example.com", True),
        ("mailto:Ann@example.com", False),
        ("ann@example.com", False),
        ("mailto:ann@example.com\n", False),
        ("mailto:ann@example.com, eve@example.com", False),
        ("mailto:ann..b@example.com", False),
        (f"mailto:ann@{'a' * 64}.com", False),
    ],
)
def test_examples(address: str, canonical: bool) -> None:
    assert is_canonical(address) is canonical
