"""Starting, keeping and stopping a stack, by its processes and files as a user sees them."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest

from devstack import guard, stack
from devstack.process import StackError, free_port
from devstack.state import StateDirectory
from devstack.status import Moved, Status
from servicekit.kafka import Admin

STANDIN = Path(__file__).with_name("standin.py")

pytestmark = pytest.mark.slow


def until(happened: Callable[[], object], seconds: float = 30) -> None:
    """Wait until ``happened`` answers something true."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Launcher:
    """A running stand-in stack and what it printed."""

    def __init__(self, path: Path, name: str = "small", *options: str) -> None:
        self.state = StateDirectory(path)
        self.output = path.with_name(f"{path.name}-output.txt")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(STANDIN), str(path), name, *options],
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def printed(self) -> str:
        return self.output.read_text()

    def until_ready(self) -> Status:
        until(lambda: "READY" in self.printed() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.printed()
        return self.status()

    def status(self) -> Status:
        status = self.state.load_status()
        assert status is not None
        return status

    def pid(self, name: str) -> int | None:
        status = self.state.load_status()
        return next((item.pid for item in status.processes if item.name == name), None) if status else None

    def ends(self, seconds: float = 15) -> int:
        return self.process.wait(seconds)

    def left(self) -> list[int]:
        """Every process of this stack that still runs, grandchildren and database included."""
        found = set(guard.members(self.state.stack_id() or "-"))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != self.process.pid and str(self.state.path) in " ".join(process.cmdline()):
                    found.add(process.pid)
        return sorted(found)


@pytest.fixture
def launch(tmp_path: Path) -> Generator[Callable[..., Launcher]]:
    """Starts stacks; what still runs after the test is killed."""
    started: list[Launcher] = []

    def start(name: str = "small", *options: str, state: Path = tmp_path / "state") -> Launcher:
        started.append(Launcher(state, name, *options))
        return started[-1]

    yield start
    for launcher in started:
        launcher.process.kill()
        launcher.process.wait()
    until(lambda: not any(launcher.left() for launcher in started))


Launch = Callable[..., Launcher]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_process_and_the_exit_is_clean(launch: Launch, sign: signal.Signals) -> None:
    launcher = launch()
    status = launcher.until_ready()
    assert status.ready
    assert {item.name: item.state for item in status.processes} == {"server": "ready", "service": "ready"}
    assert len(launcher.left()) == 3  # with the service's own child

    launcher.process.send_signal(sign)

    assert launcher.ends() == 0
    assert launcher.left() == []
    assert launcher.state.load_status() is None


def test_what_ignores_sigterm_is_killed_and_named(launch: Launch) -> None:
    launcher = launch("stubborn")
    launcher.until_ready()
    launcher.process.terminate()
    assert launcher.ends() == 0
    assert launcher.left() == []
    assert "service" in launcher.printed()
    assert "did not stop within 0.5 s; killed" in " ".join(launcher.printed().split())


def test_kill_9_of_the_launcher_leaves_no_orphan(launch: Launch) -> None:
    launcher = launch("stubborn")
    launcher.until_ready()
    assert len(launcher.left()) == 3
    launcher.process.kill()
    launcher.ends()
    until(lambda: not launcher.left(), 10)


def test_a_second_up_says_that_it_runs_and_changes_nothing(launch: Launch) -> None:
    first = launch()
    before = first.until_ready()
    second = launch()
    assert second.ends() == 0
    assert "running already" in second.printed()
    assert first.status() == before
    assert first.process.poll() is None


def test_an_explicit_port_that_is_taken_is_one_line_and_starts_nothing(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        launcher = launch("small", str(port))
        assert launcher.ends() == 1
    assert launcher.printed().count("\n") == 1
    assert f"Port {port} (for the server) is taken" in launcher.printed()
    assert launcher.left() == []


def test_ports_are_kept_from_run_to_run_but_given_up_on_conflict(launch: Launch) -> None:
    first = launch()
    addresses = first.until_ready().addresses
    first.process.terminate()
    first.ends()

    second = launch()
    assert second.until_ready().addresses == addresses
    second.process.terminate()
    second.ends()

    host, port = addresses["service"].split(":")
    with socket.create_server((host, int(port))):
        third = launch()
        now = third.until_ready().addresses
    assert now["server"] == addresses["server"]
    assert now["service"] != addresses["service"]


def test_two_stacks_that_start_together_choose_different_ports(tmp_path: Path) -> None:
    wanted = {"portal": free_port()}
    first, second = StateDirectory(tmp_path / "first"), StateDirectory(tmp_path / "second")
    for state in (first, second):
        state.make()
    with second.locked():
        with first.locked():
            assert first.choose_ports(wanted, {}) == (wanted, {})
            assert second.choose_ports(wanted, {})[0] != wanted
            assert first.choose_ports(wanted, {}) == (wanted, {})  # its own claim is no obstacle
        (second.path / "ports.json").unlink()
        assert second.choose_ports(wanted, {}) == (wanted, {})


def test_what_is_not_on_its_preferred_port_has_a_reason(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.make()
    with state.locked():
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            preferred = {"portal": port}
            assert state.choose_ports(preferred, {})[1] == {"portal": Moved(preferred=port, taken=True)}
            assert state.choose_ports(preferred, {})[1] == {"portal": Moved(preferred=port, taken=True)}
        assert state.choose_ports(preferred, {})[1] == {"portal": Moved(preferred=port, taken=False)}
        assert state.choose_ports(preferred, {"portal": port}) == (preferred, {})
        assert state.choose_ports(preferred, {}) == (preferred, {})


def test_a_foreign_server_on_the_port_is_not_taken_for_ours(launch: Launch) -> None:
    launcher = launch("squatted")
    status = launcher.until_ready()
    taken = re.search(r"squatting on (\d+)", launcher.printed())
    assert taken is not None
    assert f"Port {taken[1]} was taken meanwhile" in launcher.printed()
    assert status.addresses["service"] != f"127.0.0.1:{taken[1]}"
    assert [(item.state, item.restarts) for item in status.processes] == [("ready", 0)]


def test_a_task_that_fails_is_named_with_the_end_of_its_log_and_everything_stops(launch: Launch) -> None:
    launcher = launch("failing")
    assert launcher.ends() == 1
    error = launcher.printed().splitlines()[-1]
    assert error.startswith("ERROR migrate ended with exit code 3: task migrate (log: ")
    assert launcher.left() == []


def test_a_service_that_dies_is_started_again_and_counted(launch: Launch) -> None:
    launcher = launch()
    launcher.until_ready()
    died = launcher.pid("service")
    assert died is not None

    os.kill(died, signal.SIGKILL)

    until(lambda: launcher.pid("service") not in {None, died})
    until(lambda: all(item.state == "ready" for item in launcher.status().processes))
    assert {item.name: item.restarts for item in launcher.status().processes} == {"server": 0, "service": 1}
    said = " ".join(launcher.printed().split())
    assert "service ended unexpectedly by signal 9 (SIGKILL); starting it again" in said


def test_ready_is_said_only_when_all_are_ready_at_once(launch: Launch) -> None:
    launcher = launch("flaky")
    status = launcher.until_ready()
    assert {item.name: (item.state, item.restarts) for item in status.processes} == {
        "service": ("ready", 1),
        "server": ("ready", 0),
    }


def test_a_server_that_dies_ends_the_stack(launch: Launch) -> None:
    launcher = launch()
    launcher.until_ready()
    pid = launcher.pid("server")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert launcher.ends() == 1
    assert launcher.printed().splitlines()[-1] == (
        "ERROR server ended unexpectedly by signal 9 (SIGKILL) "
        f"(log: {launcher.state.logs / 'server.log'}). Start it again with ./latchkey up."
    )
    assert launcher.left() == []


def test_down_stops_a_stack_and_ends_what_a_killed_one_left(launch: Launch) -> None:
    launcher = launch()
    launcher.until_ready()
    assert stack.running(launcher.state).pid == launcher.process.pid
    # `wait` reaps it meanwhile, as a shell would.
    stopped = stack.stop_running(launcher.state)
    assert stopped
    assert launcher.ends() == 0
    assert launcher.left() == []
    assert not stack.stop_running(launcher.state)
    with pytest.raises(StackError, match="No stack runs on"):
        stack.running(launcher.state)


def test_state_is_private_and_never_a_directory_with_other_files(launch: Launch, tmp_path: Path) -> None:
    launcher = launch()
    launcher.until_ready()
    assert launcher.state.path.stat().st_mode & 0o777 == 0o700
    assert (launcher.state.path / "secrets.json").stat().st_mode & 0o777 == 0o600

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "precious").touch()
    with pytest.raises(StackError, match="holds other files"):
        StateDirectory(foreign).make()


def test_many_who_look_at_once_see_no_stack_where_none_runs(tmp_path: Path) -> None:
    """Else `down` beside a `status` could end whatever process has the id of the last stack by now."""
    state = StateDirectory(tmp_path / "state")
    state.make()
    with state.locked():
        assert state.holder() == os.getpid()

    def look(_: int) -> set[int | None]:
        return {state.holder() for _ in range(300)}

    with ThreadPoolExecutor(8) as lookers:
        assert set().union(*lookers.map(look, range(8))) == {None}


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.make()
    (state.path / "ports.json.new").mkdir()  # as good as a full disk, for whoever writes there
    with state.locked(), pytest.raises(StackError, match=r"ports\.json cannot be written: Is a directory\."):
        state.choose_ports({"portal": 0}, {})


def test_a_fresh_start_forgets_the_state_and_only_that(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.make()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (state.path / "link").symlink_to(elsewhere)
    old = state.load_secrets()
    state.logs.mkdir()
    (state.logs / "portal.log").touch()
    state.clear()
    assert [entry.name for entry in state.path.iterdir()] == ["lock"]
    assert state.load_secrets() != old
    assert elsewhere.is_dir()


async def test_the_real_servers_keep_their_state_over_a_restart_and_a_kill(
    launch: Launch, tmp_path: Path
) -> None:
    """PostgreSQL and Kafka as `up` runs them: roles, topics and data are there the second time too."""
    here = tmp_path / "zoë's \\ 🔑"  # no path is too strange for them
    launcher = launch("servers", state=here)
    status = launcher.until_ready()
    passwords = launcher.state.load_secrets().postgres
    where = f"127.0.0.1:{status.addresses['postgres'].rpartition(':')[2]}"
    dsn = f"postgresql://notifier:{passwords['notifier']}@{where}/latchkey"
    connection = await asyncpg.connect(dsn)
    await connection.execute("create table kept (value int)")
    await connection.execute("insert into kept values (7)")
    await connection.close()
    topics = await Admin(status.addresses["kafka"]).topic_ids(["share.events"])

    launcher.process.kill()
    launcher.ends()
    until(lambda: not launcher.left())

    again = launch("servers", state=here)
    assert again.until_ready().addresses == status.addresses
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select value from kept") == 7
    await connection.close()
    assert await Admin(status.addresses["kafka"]).topic_ids(["share.events"]) == topics

    again.process.terminate()
    assert again.ends() == 0
    assert again.left() == []
    assert [entry.name for entry in os.scandir(tmp_path) if entry.is_dir()] == [here.name]


def test_status_of_nothing_is_an_error_also_for_programs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "devstack", "status", "--state", str(tmp_path / "none")]
    person = subprocess.run(command, capture_output=True, text=True, check=False)
    assert person.returncode == 1
    assert person.stderr == (
        f"latchkey: No stack runs on {tmp_path / 'none'}. Start it with ./latchkey up.\n"
    )
    program = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert program.returncode == 1
    assert json.loads(program.stdout) == {"running": False, "state": str(tmp_path / "none")}


def test_status_tells_every_process_and_that_one_does_not_answer(launch: Launch) -> None:
    launcher = launch()
    launcher.until_ready()
    command = [sys.executable, "-m", "devstack", "status", "--json", "--state", str(launcher.state.path)]

    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0
    document = json.loads(answer.stdout)
    assert document["running"] is True
    assert [(item["name"], item["health"]) for item in document["processes"]] == [
        ("server", "ok"),
        ("service", "ok"),
    ]

    pid = launcher.pid("service")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert [item["health"] for item in json.loads(answer.stdout)["processes"]] == [
        "ok",
        "failing: ReadTimeout",
    ]


def test_a_free_port_is_one_that_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass
