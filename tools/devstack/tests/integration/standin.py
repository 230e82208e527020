"""A small stack of stand-in processes, run as a program by the tests: its map is an argument of `stack.up`.

``standin.py STATE MAP [PORT]`` prints READY once the map's processes are.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import HTTPServer
from pathlib import Path

from rich.console import Console
from standin_server import Handler

from devstack import services, stack
from devstack.process import Process, StackError
from devstack.state import Secrets, StateDirectory
from devstack.status import Status
from devstack.supervisor import Layer, Unit

SERVER = Path(__file__).with_name("standin_server.py")


def unit(
    state: StateDirectory,
    secrets: Secrets,
    name: str,
    port: int | None,
    *options: str,
    layer: Layer = Layer.SERVICE,
    needs: Sequence[str] = (),
    grace: float = 4.0,
) -> Unit:
    """A stand-in; without a port it is a task that ends with the exit code in ``options``."""
    argv = [sys.executable, "-I", "-S", str(SERVER), str(port), *options]
    if port is None:
        argv = [sys.executable, "-c", f"import sys; print('task {name}'); sys.exit({options[0]})"]
    return Unit(
        Process(
            name=name,
            argv=argv,
            log=state.logs / f"{name}.log",
            env={"LATCHKEY_STACK": secrets.stack_id},
            grace=grace,
        ),
        layer=layer,
        needs=needs,
        task=port is None,
        port=port,
        on_death="stop" if layer == Layer.SERVER else "restart",
    )


def small(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """A server, a task that needs it, a service that needs both."""
    make = partial(unit, state, secrets)
    return [
        make("server", ports["server"], layer=Layer.SERVER),
        make("migrate", None, "0", needs=("server",)),
        make("service", ports["service"], "parent", needs=("server", "migrate")),
    ]


def stubborn(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """A service that does not listen to SIGTERM."""
    make = partial(unit, state, secrets)
    return [
        make("server", ports["server"], layer=Layer.SERVER),
        make("service", ports["service"], "stubborn", "parent", needs=("server",), grace=0.5),
    ]


def failing(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """A task that fails."""
    make = partial(unit, state, secrets)
    return [
        make("server", ports["server"], layer=Layer.SERVER),
        make("migrate", None, "3", needs=("server",)),
        make("service", ports["service"], needs=("migrate",)),
    ]


def flaky(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """A service that ends soon after it was ready, the first time, while another is still starting."""
    make = partial(unit, state, secrets)
    return [
        make("service", ports["service"], f"brief={state.path / 'mark'}"),
        make("slow", None, "__import__('time').sleep(1)"),
        make("server", ports["server"], layer=Layer.SERVER, needs=("slow",)),
    ]


def squatted(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """A service whose port, the first time, another program took that answers just as well."""
    mark = state.path / "mark"
    if not mark.exists():
        mark.touch()
        other = HTTPServer(("127.0.0.1", ports["service"]), Handler)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        print(f"squatting on {ports['service']}", flush=True)
    return [unit(state, secrets, "service", ports["service"], "late")]


def servers(state: StateDirectory, ports: Mapping[str, int], secrets: Secrets) -> list[Unit]:
    """The real PostgreSQL and Kafka."""
    names = [*ports, *(name for name in services.PREFERRED_PORTS if name not in ports)]
    every = {name: ports.get(name, 1) for name in names}
    return [item for item in services.units(state, every, secrets) if item.layer == Layer.SERVER]


MAPS = {
    "small": small,
    "stubborn": stubborn,
    "failing": failing,
    "flaky": flaky,
    "squatted": squatted,
    "servers": servers,
}
PORTS = {"servers": ("postgres", "kafka", "kafka-controller")}


def up(path: str, name: str, port: str | None = None) -> int:
    """Run a stand-in stack; prints READY once it is."""

    def on_ready(_status: Status) -> None:
        print("READY", flush=True)

    directory = StateDirectory(Path(path))
    directory.make()
    with directory.locked() as held:
        if not held:
            print("it is running already")
            return 0
        try:
            stack.up(
                directory,
                MAPS[name],
                preferred=dict.fromkeys(PORTS.get(name, ("server", "service")), 0),
                fixed={"server": int(port)} if port else {},
                on_ready=on_ready,
                console=Console(),
            )
        except StackError as error:
            print(f"ERROR {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(up(*sys.argv[1:]))
