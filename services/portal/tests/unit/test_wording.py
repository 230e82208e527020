"""Terms and shares in words."""

from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.permissions import AllServices, Permission, SomeServices, Terms
from portal.wording import listed, permissions_in_words, terms_in_one_line, terms_in_words

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("parts", "words"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_listed(parts: list[str], words: str) -> None:
    assert listed(parts) == words


@pytest.mark.parametrize("permission", list(Permission))
def test_every_permission_has_words(permission: Permission) -> None:
    assert permissions_in_words(frozenset({permission}))


def test_terms() -> None:
    every = terms_in_words(Terms(scope=AllServices()), {})
    assert every.summary == "Every service of this device, and those added later"
    limited = terms_in_words(
        Terms(scope=AllServices(permissions=frozenset({Permission.PLAYBACK, Permission.LIVE_VIEW}))), {}
    )
    assert limited.summary.endswith(": watch live and watch recordings")
    some = terms_in_words(
        Terms(scope=SomeServices(services={"s1": "all", "s2": frozenset({Permission.PTZ})}), scripting=True),
        {"s1": "Yard"},
    )
    assert some.summary == "2 services of this device"
    assert some.services == (("Yard", "everything it can do"), ("s2", "move the camera"))
    assert some.scripting


@pytest.mark.parametrize(
    ("fields", "period"),
    [
        ({}, ""),
        ({"starts_at": NOON}, "From 1 May 2026, 12:00 UTC on."),
        ({"ends_at": NOON}, "Until 1 May 2026, 12:00 UTC."),
    ],
)
def test_period(fields: dict[str, Any], period: str) -> None:
    assert terms_in_words(Terms(scope=AllServices(), **fields), {}).period == period


def test_terms_in_one_line() -> None:
    some = SomeServices(services={"s1": "all", "s2": frozenset({Permission.PTZ})})
    terms = Terms(scope=some, scripting=True, ends_at=NOON)
    assert terms_in_one_line(terms) == (
        "2 services of this device. s1: everything it can do; s2: move the camera. run scripts. "
        "Until 1 May 2026, 12:00 UTC"
    )
