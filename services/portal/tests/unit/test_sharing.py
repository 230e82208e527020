"""What the arguments of `share` mean together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import LeaveShare, RequestShare, RevokeShare
from portal.sharing import (
    ServiceEntry,
    ShareCall,
    SharingAction,
    UnusableCallError,
    command_id_for,
    to_command,
    undone_services,
)

ADD, REMOVE, LEAVE = SharingAction.ADD, SharingAction.REMOVE, SharingAction.LEAVE
IDS = st.from_regex(r"^[A-Za-z0-9:._-]{1,64}\Z")
ENTRIES = st.builds(ServiceEntry, IDS, st.sampled_from([ADD, REMOVE]))
CALLS = st.builds(
    ShareCall,
    device_ids=st.lists(IDS, min_size=1, max_size=4).map(tuple),
    emails=st.lists(st.text(min_size=1), min_size=1, max_size=4).map(tuple),
    services=st.none() | st.lists(ENTRIES, min_size=1, max_size=6).map(tuple),
    scripting=st.none() | st.booleans(),
    notify=st.booleans(),
    action=st.sampled_from([ADD, REMOVE]),
)


@given(CALLS)
def test_a_call_never_widens_beyond_what_it_names(call: ShareCall) -> None:
    command = to_command(call, actor="ann", command_id="c1")
    assert command.actor == "ann"
    if call.action is REMOVE:
        if call.services is None:
            assert isinstance(command, RevokeShare)
        else:
            assert isinstance(command, RequestShare)
            assert {change.action for change in command.services} == {"REMOVE"}
            assert command.scripting is None
    else:
        assert isinstance(command, RequestShare)
        assert command.scripting is call.scripting
        assert [(change.service_id, change.action) for change in command.services] == [
            (entry.service_id, entry.action.value) for entry in call.services or ()
        ]
    if isinstance(command, RequestShare):
        assert bool(command.services) is (call.services is not None)
        assert command.notify is call.notify


def test_leave_names_the_caller() -> None:
    call = ShareCall(("cam-1",), ("ann@example.com",), action=LEAVE)
    command = to_command(call, actor="ann", command_id="c1")
    assert command == LeaveShare(
        command_id="c1", actor="ann", device_ids=("cam-1",), recipients=("ann@example.com",)
    )
    of_all = to_command(ShareCall(("cam-1",), (), action=LEAVE), actor="ann", command_id="c1")
    assert of_all == LeaveShare(command_id="c1", actor="ann", device_ids=("cam-1",))
    for action in (ADD, REMOVE):
        with pytest.raises(UnusableCallError):
            to_command(ShareCall(("cam-1",), (), action=action), actor="ann", command_id="c1")


@pytest.mark.parametrize(
    ("entries", "undone"),
    [
        ([], []),
        ([("a", ADD)], []),
        ([("a", REMOVE)], []),
        ([("a", ADD), ("a", REMOVE)], ["a"]),
        ([("a", REMOVE), ("a", ADD)], []),
        ([("a", ADD), ("b", REMOVE)], []),
        ([("a", ADD), ("a", REMOVE), ("a", ADD)], []),
        ([("a", ADD), ("a", REMOVE), ("b", ADD), ("b", REMOVE), ("a", REMOVE)], ["a", "b"]),
    ],
)
def test_undone_services(entries: list[tuple[str, SharingAction]], undone: list[str]) -> None:
    assert undone_services([ServiceEntry(*entry) for entry in entries]) == undone


@given(st.text(), st.text(), st.text(), st.text())
def test_keys_of_two_accounts_never_meet(one: str, other: str, key: str, field: str) -> None:
    same = command_id_for(one, key, field) == command_id_for(other, key, field)
    assert same is (one == other)


def test_without_a_key_every_id_is_new() -> None:
    assert command_id_for("ann", None, "share") != command_id_for("ann", None, "share")


@pytest.mark.parametrize("services", [(), (ServiceEntry("a"),)])
def test_what_would_be_guessed_is_refused(services: tuple[ServiceEntry, ...]) -> None:
    with pytest.raises(UnusableCallError):
        to_command(
            ShareCall(("cam-1",), ("a@example.com",), services=services, action=LEAVE),
            actor="ann",
            command_id="c1",
        )
