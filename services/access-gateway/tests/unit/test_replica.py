"""What memory keeps, how much of it, and until when."""

import dataclasses
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access_gateway.policy import DeviceGrants, Service, Share
from access_gateway.replica import TRUSTED_SECONDS, Replica
from contracts.permissions import AllServices, Permission, Terms

NOW = 1000.0
ALL = Terms(scope=AllServices())


def device(number: int, *accounts: str, services: int = 1, ends: float | None = None) -> DeviceGrants:
    names = [f"svc-{number}-{place}" for place in range(services)]
    return DeviceGrants(
        device_id=f"dev-{number}",
        owner_account_id="owner",
        version=1,
        partition=0,
        quarantined=False,
        services={
            name: Service(name, "tcp", None, "127.0.0.1", 22, frozenset({Permission.CONNECT}))
            for name in names
        },
        shares={account: (Share(UUID(int=1), ALL, None, ends),) for account in accounts},
    )


def functions(replica: Replica, account: str, service: str, now: float = NOW) -> set[Permission] | None:
    found = replica.find(account, service, now)
    return None if found is None else {each for access in found.accesses for each in access.functions}


def test_what_was_not_read_is_not_known() -> None:
    replica = Replica(100)
    assert functions(replica, "ann", "svc-1-0") is None
    replica.put("svc-1-0", [device(1, "ann")], began=NOW)
    assert functions(replica, "ann", "svc-1-0") == {Permission.CONNECT}
    assert functions(replica, "bob", "svc-1-0") == set()
    assert replica.began("svc-1-0") == NOW


def test_a_changed_device_is_forgotten_with_every_service_that_led_to_it() -> None:
    replica = Replica(100)
    both = device(1, "ann", services=2)
    for service in both.services:
        replica.put(service, [both], began=NOW)
        assert functions(replica, "ann", service)
    replica.put("svc-2-0", [device(2, "ann")], began=NOW)
    replica.drop(["dev-1", "dev-9"])
    assert functions(replica, "ann", "svc-1-0") is None
    assert functions(replica, "ann", "svc-1-1") is None
    assert functions(replica, "ann", "svc-2-0")
    replica.drop(None)
    assert functions(replica, "ann", "svc-2-0") is None
    assert len(replica) == 0


def test_what_was_read_later_holds_for_whoever_was_known_before() -> None:
    replica = Replica(100)
    replica.put("svc-1-0", [device(1, "ann")], began=NOW)
    assert functions(replica, "ann", "svc-1-0")
    replica.drop(["dev-1"])
    replica.put("svc-1-0", [device(1, "bob")], began=NOW + 1)
    assert functions(replica, "ann", "svc-1-0") == set()
    assert functions(replica, "bob", "svc-1-0")


def test_an_end_comes_without_being_told() -> None:
    replica = Replica(100)
    replica.put("svc-1-0", [device(1, "ann", ends=NOW + 5)], began=NOW)
    assert functions(replica, "ann", "svc-1-0", NOW + 4.999)
    assert functions(replica, "ann", "svc-1-0", NOW + 5) == set()


def test_windows_are_believed_for_ten_minutes() -> None:
    replica = Replica(100)
    replica.put("svc-1-0", [device(1, "ann", ends=NOW + 9999)], began=NOW)
    replica.put("svc-2-0", [device(2, "ann")], began=NOW)
    later = NOW + TRUSTED_SECONDS
    assert functions(replica, "ann", "svc-1-0", later - 1)
    assert functions(replica, "ann", "svc-1-0", later) is None
    assert functions(replica, "ann", "svc-2-0", later)


def test_the_services_asked_for_last_stay() -> None:
    replica = Replica(10)  # two devices: each is itself, a service, a share, a service known and an access
    for number in (1, 2):
        replica.put(f"svc-{number}-0", [device(number, "ann")], began=NOW)
        assert functions(replica, "ann", f"svc-{number}-0")
    assert len(replica) == 10
    assert functions(replica, "ann", "svc-1-0")
    replica.put("svc-3-0", [device(3, "ann")], began=NOW)
    assert functions(replica, "ann", "svc-2-0") is None
    assert functions(replica, "ann", "svc-1-0")


def test_a_device_larger_than_memory_can_be_asked_about() -> None:
    replica = Replica(10)
    replica.put("svc-1-0", [device(1, *(f"ann-{number}" for number in range(50)))], began=NOW)
    assert functions(replica, "ann-7", "svc-1-0")
    replica.put("svc-2-0", [device(2, "ann")], began=NOW)
    assert functions(replica, "ann-7", "svc-1-0") is None
    assert len(replica) <= 10


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put unknown", "find", "drop", "drop all"]),
        st.integers(0, 9),
        st.integers(0, 2),
    ),
    max_size=60,
)


@given(ACTIONS, st.integers(1, 40))
@pytest.mark.slow
def test_memory_is_bounded_and_nothing_dropped_is_answered(
    actions: list[tuple[str, int, int]], capacity: int
) -> None:
    replica = Replica(capacity)
    version = dict.fromkeys(range(10), 0)
    for what, number, place in actions:
        service = f"svc-{number}-{place}"
        if what == "put":
            facts = device(number, *(f"ann-{each}" for each in range(number)), services=3)
            facts = dataclasses.replace(facts, version=version[number])
            replica.put(service, [facts], began=NOW)
        elif what == "put unknown":
            replica.put(service, [], began=NOW)
        elif what == "find":
            found = replica.find("ann-0", service, NOW)
            accesses = found.accesses if found is not None else ()
            assert all(each.device_version == version[number] for each in accesses)
        else:
            version.update({each: version[each] + 1 for each in ([number] if what == "drop" else range(10))})
            replica.drop([f"dev-{number}"] if what == "drop" else None)
        largest = 1 + 3 + 9 + 1 + 9  # a device, its services, its shares, that it is known, and accesses
        assert len(replica) <= max(capacity, largest)
    replica.drop(f"dev-{number}" for number in range(10))
    for number in range(10):
        for place in range(3):
            assert functions(replica, "ann-0", f"svc-{number}-{place}") in (None, set())
