"""What the verbs of ./latchkey say to a person, where no whole stack is needed."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from devstack import guard, seed
from devstack.demo import left_to_answer
from devstack.demo_clients import Person
from devstack.process import free_port, shim
from devstack.stack import start_in_background, stop_running
from devstack.state import StateDirectory
from devstack.status import Moved, Status

pytestmark = pytest.mark.slow
CLI = [sys.executable, "-m", "devstack"]
ADDRESSES = {"portal": "127.0.0.1:8480", "mailbox": "127.0.0.1:8495", "kafka": "127.0.0.1:8493"}


def call(*arguments: object, without_rights: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a verb; ``without_rights`` also takes those of root away, when the tests run as root."""
    command = [*CLI, *(str(argument) for argument in arguments)]
    if without_rights:
        command = shim(command, death_signal=signal.SIGKILL, nobody=True)
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.make()
    return directory


@pytest.fixture
def running(state: StateDirectory) -> Generator[Status]:
    """What looks from outside like a stack that runs."""
    with state.locked():
        status = Status(pid=os.getpid(), state=state.path, ready=True, addresses=ADDRESSES, processes=[])
        state.save_status(status)
        yield status


@pytest.mark.parametrize(
    ("name", "address"), [("portal", "http://127.0.0.1:8480"), ("kafka", "127.0.0.1:8493")]
)
def test_status_of_one_is_its_address_alone(running: Status, name: str, address: str) -> None:
    answer = call("status", name, "--state", running.state)
    assert (answer.stdout, answer.stderr, answer.returncode) == (f"{address}\n", "", 0)


def test_status_of_one_that_is_not_there_prints_no_address(running: Status, tmp_path: Path) -> None:
    answer = call("status", "protal", "--state", running.state)
    assert (answer.stdout, answer.returncode) == ("", 1)
    assert (
        answer.stderr
        == "latchkey: Nothing is called protal. Those there are: ca-file, kafka, mailbox, portal.\n"
    )
    answer = call("status", "portal", "--state", tmp_path / "none")
    assert (answer.stdout, answer.returncode) == ("", 1)


def test_a_port_for_a_stack_that_runs_already_is_said_to_be_ignored(running: Status) -> None:
    answer = call("up", "--port", 9000, "--state", running.state)
    assert "running already" in answer.stdout
    assert "http://127.0.0.1:8480" in answer.stdout
    assert "--port 9000 was ignored" in answer.stdout
    assert "ignored" not in call("up", "--port", 8480, "--state", running.state).stdout


def test_ports_that_moved_are_said_with_the_reason(
    running: Status, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from devstack import __main__ as cli

    monkeypatch.setattr(cli, "console", Console(width=40))
    moved = {
        "portal": Moved(preferred=8470, taken=False),
        "mailbox": Moved(preferred=8480, taken=True),
        "issuer": Moved(preferred=8482, taken=True),
    }
    addresses = {**ADDRESSES, "issuer": "127.0.0.1:8496"}
    cli.show_ready(running.model_copy(update={"moved": moved, "addresses": addresses}), "Ctrl-C")
    printed = capsys.readouterr().out
    assert "portal is on port 8480: as last time; --fresh, or --port 8470, brings back 8470\n" in printed
    assert "mailbox is on port 8495: 8480 is the port of the portal\n" in printed
    assert "issuer is on port 8496: 8482 is taken by another program\n" in printed


def test_a_start_in_the_background_that_fails_says_so_once(state: StateDirectory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = call("up", "--detach", "--port", port, "--state", state.path)
    assert answer.returncode == 1
    assert answer.stderr == (
        f"latchkey: Port {port} (for the portal) is taken by another program. Choose another port.\n"
    )
    assert "latchkey" not in answer.stdout


@pytest.mark.parametrize("tied", [False, True])
def test_ctrl_c_while_a_stack_starts_in_the_background_leaves_nothing_of_it(
    state: StateDirectory, *, tied: bool
) -> None:
    class Interrupted(Console):
        """Whoever looks at it presses Ctrl-C as soon as there is something to see."""

        def print(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            start_in_background(state, [], tied=tied, console=Interrupted())
        assert state.holder() is None
        assert guard.members(state.stack_id() or "-") == []
    finally:
        stop_running(state)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory that is another user's")
def test_another_user_cannot_have_a_stack_make_files_for_him(
    state: StateDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ports are claimed by files below the directory for temporary ones, which is everybody's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    port = free_port()
    his = tmp_path / f"latchkey-ports-{os.getuid()}"
    his.mkdir()
    (his / str(port)).symlink_to(tmp_path / "nologin")
    os.chown(his, 65534, 65534)
    with state.locked():
        assert state.choose_ports({"portal": port}, {})[0] == {"portal": port}
    assert not (tmp_path / "nologin").exists()


def test_a_port_that_needs_rights_is_not_called_taken(state: StateDirectory) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 81:
        pytest.skip("every user may use port 81 here")
    answer = call("up", "--port", 81, "--state", state.path, without_rights=True)
    assert answer.returncode == 1
    assert f"this user may not use ports below {first}" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["doctor", "status", "down", "up"])
def test_a_state_directory_that_may_not_be_looked_into_is_one_clear_line(tmp_path: Path, verb: str) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    answer = call(verb, "--state", closed / "state", without_rights=True)
    closed.chmod(0o700)
    said = " ".join((answer.stdout if verb == "doctor" else answer.stderr).split())
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert said.count("Permission denied") == 1
    assert "Name another by --state" in said


def test_a_usage_error_names_the_command_that_was_typed() -> None:
    assert "Usage: ./latchkey up " in call("up", "--prot", 1).stderr
    assert "python" not in call("up", "--prot", 1).stderr


def test_every_verb_that_the_overview_names_explains_itself() -> None:
    answer = call("lock", "--help")
    assert answer.returncode == 0
    assert "requirements.lock" in answer.stdout
    assert "lock" in call("--help").stdout


def test_the_demo_says_where_its_last_invitation_is_when_it_stops_the_stack(tmp_path: Path) -> None:
    status = Status(pid=1, state=tmp_path, ready=True, addresses=ADDRESSES, processes=[])
    bob = Person(seed.ACCOUNTS[1], "token", status.url("portal"), httpx.AsyncClient())
    assert "is left for you: open the mail at" in left_to_answer(status, bob, stops=False)
    stopped = left_to_answer(status, bob, stops=True)
    assert "is left for you: run [bold]./latchkey up[/bold], then open the mail at" in stopped


def test_a_directory_of_an_earlier_version_gets_a_key_for_pushes_that_stays(state: StateDirectory) -> None:
    """Browsers have subscribed with the key: with another one, all their subscriptions are void."""
    state.load_secrets()
    kept = state.path / "secrets.json"
    earlier = {name: value for name, value in json.loads(kept.read_text()).items() if name != "push_key"}
    kept.write_text(json.dumps(earlier))
    first = state.load_secrets()
    assert state.load_secrets() == first
    assert first.link_secret == earlier["link_secret"]
