"""Every service has one host name, and every name leads back to one service."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.protocols.names import host_name, service_of

ids = st.text(string.ascii_letters + string.digits + ":._-", min_size=1, max_size=64)
ports = st.integers(0, 65535)


@given(ids, ports)
def test_a_host_name_leads_back_to_its_service_in_any_case(service_id: str, port: int) -> None:
    name = host_name(service_id)
    assert name == name.lower()
    for written in (name, name.upper(), name.title()):
        assert service_of(f"{written}:{port}") == service_id


@given(ids, ids)
def test_no_two_services_have_one_host_name(one: str, other: str) -> None:
    assert (one == other) == (host_name(one) == host_name(other))


@given(st.text(max_size=100))
def test_what_names_no_service_is_refused(target: str) -> None:
    try:
        service_id = service_of(target)
    except ValueError:
        return
    assert 1 <= len(service_id) <= 64
    assert set(service_id) <= set(string.ascii_letters + string.digits + ":._-")


@pytest.mark.parametrize(
    ("target", "service_id"),
    [
        ("80-00-00-00-01-00-00-02.latchkey:22", "80:00:00:00:01:00:00:02"),
        ("80-0A-00-00-01-00-00-02.LATCHKEY:22", "80:0A:00:00:01:00:00:02"),
        ("80:00:00:00:01:00:00:02:22", "80:00:00:00:01:00:00:02"),
        ("[80:00:00:00:01:00:00:02]:22", "80:00:00:00:01:00:00:02"),
        ("dev-1-svc:443", "dev-1-svc"),
        ("_43am_2d1.latchkey:554", "Cam-1"),
        ("cam-1.local:554", "cam-1.local"),
    ],
)
def test_the_ways_to_write_it(target: str, service_id: str) -> None:
    assert service_of(target) == service_id


@pytest.mark.parametrize(
    "target",
    ["dev-1", "", ":22", "[]:22", ".latchkey:22", "a/b:22", "dev 1:22", "-.latchkey:22", "_zz.latchkey:22",
     "x" * 65 + ":22", "dev-1:port", "dev-1:", "_0a.latchkey:22"],
)  # fmt: skip
def test_what_is_no_name(target: str) -> None:
    with pytest.raises(ValueError, match="must"):
        service_of(target)
