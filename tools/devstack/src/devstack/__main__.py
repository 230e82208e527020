"""The verbs behind ``./latchkey``."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from devstack import certificates, demo_servers, jars, services
from devstack.process import StackError
from devstack.seed import OWNER_EMAIL, RECIPIENT_EMAIL
from devstack.stack import (
    ERROR_MARK,
    forget,
    health,
    running,
    start_in_background,
    stop_running,
)
from devstack.stack import up as run_stack
from devstack.state import StateDirectory
from devstack.status import Status
from devstack.target import Target

PROJECT = Path(__file__).parents[4]

app = typer.Typer(
    name="latchkey",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Share devices, single services and camera streams with others, and take them back.",
)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

StateOption = Annotated[
    Path,
    typer.Option("--state", envvar="LATCHKEY_STATE", help="Directory in which the stack keeps everything."),
]
_STATE = PROJECT / ".latchkey"
_CA_FILE = "ca-file"


@app.callback(invoke_without_command=True)
def overview(context: typer.Context) -> None:
    """Show the commands that matter."""
    if context.invoked_subcommand is None:
        show_help()


@app.command("help", hidden=True)
def show_help() -> None:
    """Show the commands that matter."""
    table = Table.grid(padding=(0, 2))
    for command, what in (
        ("./latchkey demo", "play the main job: share, accept, connect, revoke, cut"),
        ("./latchkey up", "start everything here; Ctrl-C stops it"),
        ("./latchkey status", "what runs, and where"),
        ("./latchkey ops", "lag, dead letters, quarantine, replay, who had access"),
        ("./latchkey test", "all checks and tests"),
        ("./latchkey down", "stop what runs"),
    ):
        table.add_row(f"  [bold]{command}[/bold]", what)
    console.print(table)
    console.print(
        "\n  Also: [bold]doctor[/bold] (what is missing), [bold]token[/bold] EMAIL, [bold]bench[/bold] NAME, "
        "[bold]lock[/bold]. Each explains itself with --help."
    )


@app.command()
def up(
    state: StateOption = _STATE,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget all earlier state first.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the portal.", min=1, max=65535)] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when it is ready; `down` stops it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> None:
    """Start the whole stack and keep it running until Ctrl-C."""
    directory = StateDirectory(state)
    directory.make()
    holder = directory.holder()
    if holder is not None and fresh:
        raise StackError("A stack runs on this state. Stop it first (./latchkey down) to begin anew.")
    if holder is None and detach:
        fetch_jars()
        options = [*(["--fresh"] if fresh else []), *(["--port", str(port)] if port else [])]
        show_ready(start_in_background(directory, options, tied=False, console=console), "./latchkey down")
        return
    with directory.locked() as held:
        if not held:
            _already_running(directory, port)
            return
        if fresh:
            forget(directory)
        fetch_jars()
        run_stack(
            directory,
            services.units,
            preferred=services.PREFERRED_PORTS,
            fixed={services.PORTAL: port} if port else {},
            on_ready=lambda status: None if quiet else show_ready(status, "Ctrl-C"),
            console=console,
        )
    console.print("Everything is stopped.")


def _already_running(directory: StateDirectory, port: int | None) -> None:
    status = directory.load_status()
    if status is None or not status.ready:
        console.print(f"A stack is being started on {directory.path} by process {directory.holder()}.")
        return
    url = status.url(services.PORTAL)
    console.print(f"The stack is running already (process {status.pid}): {url}", soft_wrap=True)
    if port and not url.endswith(f":{port}"):
        console.print(
            f"--port {port} was ignored. To have it, stop the stack first: ./latchkey down", soft_wrap=True
        )


def fetch_jars() -> None:
    """Fetch the broker's jars with a bar on the terminal, unless they are there."""
    if not jars.missing(jars.cache_directory()):
        jars.fetch()
        return
    columns = (TextColumn("Fetching Kafka"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None)
        jars.fetch(progress=lambda there, total: progress.update(task, completed=there, total=total))


def show_ready(status: Status, stop: str) -> None:
    """Print where things are, and why not where they are wont to be; how to sign in; one example call."""
    table = Table.grid(padding=(0, 2))
    shown = {
        services.PORTAL: "sign in, see devices and invitations; GraphQL at /graphql/v1",
        "mailbox": "the mails that were sent",
        "issuer": "the sign-in service with the demo accounts",
    }
    for name, what in shown.items():
        table.add_row(f"  [bold]{name}[/bold]", status.url(name), what)
    console.print("\n[green bold]Ready.[/green bold]")
    console.print(table)
    for name in shown:
        if name in status.moved:
            console.print(f"  [yellow]{_why_moved(name, status)}[/yellow]", soft_wrap=True)
    url = status.url(services.PORTAL)
    console.print(
        f"\n  Sign in as [bold]{OWNER_EMAIL}[/bold] (who owns the demo devices) or "
        f"[bold]{RECIPIENT_EMAIL}[/bold]; no password is asked.\n  Or ask as a program:\n",
        soft_wrap=True,
    )
    console.print(
        f'    curl -s {url}/graphql/v1 -H "Authorization: Bearer $(./latchkey token {OWNER_EMAIL})" \\\n'
        """      -H 'Content-Type: application/json' -d '{"query": "{ login { id email } }"}'\n""",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"  All addresses: [bold]./latchkey status[/bold]. To stop: [bold]{stop}[/bold].\n")


def _why_moved(name: str, status: Status) -> str:
    moved = status.moved[name]
    port, now = moved.preferred, status.addresses[name].rpartition(":")[2]
    ours = [other for other, address in status.addresses.items() if address.endswith(f":{port}")]
    mend = f"--fresh, or --port {port}," if name == services.PORTAL else "--fresh"
    why = f"as last time; {mend} brings back {port}"
    if ours:
        why = f"{port} is the port of the {ours[0]}"
    elif moved.taken:
        why = f"{port} is taken by another program"
    return f"{name} is on port {now}: {why}"


@app.command()
def down(state: StateOption = _STATE) -> None:
    """Stop the stack that runs."""
    stopped = stop_running(StateDirectory(state))
    console.print("Everything is stopped." if stopped else "No stack is running.")


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(help=f"Print the address of this one only; {_CA_FILE}: who signs the certificates."),
    ] = None,
    state: StateOption = _STATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what runs, where, and whether it is well. Exit code 1 when it is not, or nothing runs."""
    try:
        found = running(StateDirectory(state))
    except StackError:
        if as_json:
            print(json.dumps({"running": False, "state": str(state.resolve())}))
            raise typer.Exit(1) from None
        raise
    if name == _CA_FILE:
        print(certificates.files(StateDirectory(state).tls).ca)
        return
    if name is not None:
        if name not in found.addresses:
            raise StackError(
                f"Nothing is called {name}. Those there are: "
                f"{', '.join(sorted([*found.addresses, _CA_FILE]))}."
            )
        print(found.addresses[name] if name in services.WITHOUT_HTTP else found.url(name))
        return
    answers = asyncio.run(health(found))
    well = found.ready and all(answer == "ok" for answer in answers.values())
    if as_json:
        document = found.model_dump(mode="json")
        for item in document["processes"]:
            item["health"] = answers[item["name"]]
        print(json.dumps({"running": True, **document}, indent=2))
        raise typer.Exit(0 if well else 1)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("process", "pid", "address", "health", "restarts"):
        table.add_column(column, no_wrap=column != "health")
    for item in found.processes:
        answer = answers[item.name]
        table.add_row(
            f"[bold]{item.name}[/bold]",
            str(item.pid or "-"),
            item.address or "-",
            f"[{'green' if answer == 'ok' else 'red'}]{escape(answer)}[/]",
            str(item.restarts or ""),
        )
    for other in sorted(found.addresses.keys() - {item.name for item in found.processes}):
        table.add_row(f"[dim]{other}[/dim]", "", found.addresses[other], "", "")
    console.print(table)
    raise typer.Exit(0 if well else 1)


@app.command()
def token(
    email: Annotated[str, typer.Argument(help="Address of a demo account.")], state: StateOption = _STATE
) -> None:
    """Print a bearer token for a demo account."""
    print(asyncio.run(running(StateDirectory(state)).token(email)))


@app.command()
def demo(
    state: StateOption = _STATE,
    target: Annotated[
        str | None, typer.Option(help="Play on a stack elsewhere, whose portal is here: that of containers.")
    ] = None,
    mailbox: Annotated[
        str | None, typer.Option(help="With --target: the mailbox. Default: port 8481 of the same host.")
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(help="With --target: the demo's sign-in. Default: port 8482 of the same host."),
    ] = None,
    kafka: Annotated[
        str | None, typer.Option(help="With --target: a broker, when it can be reached from here.")
    ] = None,
) -> None:
    """Play the main job against the running stack; starts one when none runs, and stops it afterwards."""
    from devstack.demo import run  # noqa: PLC0415 - with all that it needs, only for this verb

    if target is not None:
        host = f"http://{urlsplit(target).hostname}"
        there = Target(
            target,
            mailbox or f"{host}:{services.PREFERRED_PORTS['mailbox']}",
            issuer or f"{host}:{services.PREFERRED_PORTS['issuer']}",
            kafka,
        )
        raise typer.Exit(asyncio.run(run(there)))
    directory = StateDirectory(state)
    directory.make()
    ours = directory.holder() is None
    if ours:
        fetch_jars()
    stack = start_in_background(directory, [], tied=True, console=console) if ours else running(directory)
    try:
        code = asyncio.run(run(stack, stops=ours))
    finally:
        if ours:
            stop_running(directory)
    raise typer.Exit(code)


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": ["--help"],
    }
)
def test(
    context: typer.Context,
    gates: Annotated[bool, typer.Option(help="Run the linters and the type checker first.")] = True,
) -> None:
    """Run the checks, then pytest with the arguments given; without any, all tests side by side."""
    from devstack.checks import run_checks  # noqa: PLC0415 - only for this verb

    fetch_jars()
    raise typer.Exit(run_checks(PROJECT, context.args, gates=gates, console=console))


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,  # what follows the name is the benchmark's
    },
)
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a file in bench/, without .py.")],
    state: StateOption = _STATE,
) -> None:
    """Run one benchmark against the stack; its last line is a JSON object with the figures."""
    from devstack.bench import run_bench  # noqa: PLC0415 - only for this verb

    directory = StateDirectory(state)
    script = PROJECT / "bench" / f"{name}.py"
    if not script.is_file():
        known = ", ".join(sorted(path.stem for path in script.parent.glob("[a-z]*.py"))) or "none"
        raise StackError(f"There is no benchmark {name}. Those there are: {known}.")
    directory.make()
    ours = directory.holder() is None
    if ours:
        fetch_jars()
        start_in_background(directory, [], tied=True, console=errors)
    try:
        code = run_bench(script, running(directory), context.args, console)
    finally:
        if ours:
            stop_running(directory)
    raise typer.Exit(code)


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,  # what follows the verb is the verb's
    },
    add_help_option=False,
)
def ops(context: typer.Context, state: StateOption = _STATE) -> None:
    """Ask and mend an installation: lag, dead letters, quarantine, replay, who had access."""
    command = [sys.executable, "-m", "latchkey_ops", *context.args]
    env = dict(os.environ)
    asks = bool(context.args) and not {"-h", "--help"} & set(context.args)
    told = {"LATCHKEY_POSTGRES_DSN", "LATCHKEY_KAFKA_BOOTSTRAP", "LATCHKEY_SECRETS_DIR"} & env.keys()
    if asks and not told:
        directory = StateDirectory(state)
        env |= services.operator_settings(running(directory), directory.load_secrets())
    os.execve(sys.executable, command, env)  # noqa: S606 - it takes over: its exit code and signals are ours


@app.command()
def lock() -> None:
    """Make requirements.lock again from the pyproject files."""
    # The launcher does it itself, before there is an environment, when it is asked for nothing else.
    raise StackError("Only the launcher makes the lock. Run it as ./latchkey lock, without more.")


@app.command()
def doctor(state: StateOption = _STATE) -> None:
    """Say what is missing on this machine, and the command that mends it."""
    from devstack.doctor import examine  # noqa: PLC0415 - only for this verb

    table = Table.grid(padding=(0, 2))
    findings = examine(PROJECT, StateDirectory(state))
    for finding in findings:
        mark = (
            "[green]ok[/green]"
            if finding.ok
            else "[red]missing[/red]"
            if finding.vital
            else "[yellow]note[/yellow]"
        )
        table.add_row(f"  {mark}", f"[bold]{finding.name}[/bold]", escape(finding.what))
    console.print(table)
    raise typer.Exit(1 if any(finding.vital and not finding.ok for finding in findings) else 0)


def main() -> None:
    """Run the verb of the command line; what a person must mend is one line on stderr."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        if verb in demo_servers.MODULES:
            demo_servers.run(verb)
        app(prog_name="./latchkey")
    except StackError as error:
        errors.print(f"[red bold]{ERROR_MARK}[/red bold]{escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
