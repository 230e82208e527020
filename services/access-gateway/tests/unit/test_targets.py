"""Which addresses may be dialled."""

from ipaddress import ip_network

import pytest

from access_gateway.targets import may_dial, plain_address


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("10.1.2.3", [], False),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("fd00::1", ["fd00::/8"], True),
        ("fd00::1", ["10.0.0.0/8"], False),
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("127.0.0.1", ["0.0.0.0/0"], False),
        ("::ffff:127.0.0.1", ["0.0.0.0/0"], False),
        ("::1", ["::/0"], False),
        ("169.254.169.254", ["0.0.0.0/0"], False),
        ("fe80::1%eth0", ["::/0"], False),
        ("169.254.1.1", ["169.254.0.0/16"], True),
        ("0.0.0.0", ["0.0.0.0/0"], False),
        ("224.0.0.1", ["0.0.0.0/0"], False),
    ],
)
def test_a_target_must_lie_in_a_network_meant_for_it(
    address: str, networks: list[str], allowed: bool
) -> None:
    assert may_dial(plain_address(address), [ip_network(each) for each in networks]) is allowed
