"""Refusals are slowed, then stopped, then forgiven; memory stays bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.limits import RefusalLimiter


def test_refusals_are_answered_slower_and_slower_and_then_not_for_a_while() -> None:
    limiter = RefusalLimiter(burst=3, forgive_seconds=10.0)
    assert limiter.blocked_for("ann", 0.0) == 0
    delays = [limiter.refused("ann", 0.0) for _ in range(3)]
    assert delays == sorted(set(delays))
    assert limiter.blocked_for("ann", 0.0) == 10.0
    assert limiter.blocked_for("ann", 4.0) == pytest.approx(6.0)
    assert limiter.blocked_for("ann", 10.0) == 0
    assert limiter.blocked_for("bob", 0.0) == 0


def test_an_answer_is_never_held_back_for_more_than_a_second() -> None:
    limiter = RefusalLimiter(burst=3)
    assert max(limiter.refused("ann", 0.0) for _ in range(2000)) <= 1.0


@given(st.lists(st.text(max_size=4), max_size=200))
def test_memory_is_bounded(keys: list[str]) -> None:
    limiter = RefusalLimiter(capacity=5)
    for now, key in enumerate(keys):
        limiter.refused(key, float(now))
    assert len(limiter) <= 5
