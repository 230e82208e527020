"""Terms and shares in words."""

from typing import Any

import pytest

from contracts.permissions import AllServices, Permission, SomeServices, Terms
from portal.answers import Device
from portal.wording import listed, permissions_in_words, share_in_words, terms_in_words


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


def device(**fields: Any) -> Device:
    """A device of Ann's."""
    return Device.model_validate(
        {
            "device_id": "d",
            "name": "D",
            "owner": {"account_id": "ann", "name": "Ann"},
            "owned": True,
            "share_state": "none",
            **fields,
        }
    )


def entry(email: str, state: str) -> dict[str, Any]:
    """A share."""
    return {
        "share_id": "0199a000-0000-7000-8000-000000000001",
        "state": state,
        "email": email,
        "terms": {"scope": {"kind": "all"}},
    }


ENDED = entry("x", "left")


@pytest.mark.parametrize(
    ("shown", "label", "detail"),
    [
        (device(), "Not shared", ""),
        (device(owned=False, share_state="in"), "Shared with you", "from Ann"),
        (
            device(share_state="out", access=[entry("b", "active"), entry("c", "requested"), ENDED]),
            "Shared by you",
            "with b, waiting for c",
        ),
        (
            device(share_state="out", access=[entry(name, "active") for name in "bcdef"]),
            "Shared by you",
            "with b, c and 3 others",
        ),
        (device(owned=False, share_state="both"), "Shared with you, and by you", "from Ann"),
    ],
)
def test_shares(shown: Device, label: str, detail: str) -> None:
    share = share_in_words(shown)
    assert (share.arrow, share.label, share.detail) == (shown.share_state, label, detail)
