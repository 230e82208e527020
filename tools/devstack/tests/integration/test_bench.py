"""`./latchkey bench`: what a benchmark prints, and what is shown of it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from devstack.bench import run_bench
from devstack.process import StackError
from devstack.status import Status

PROJECT = Path(__file__).parents[4]
LAST = {
    "name": "nothing",
    "figures": [
        {"figure": "p99", "value": 12.5, "unit": "ms", "aim": "< 250", "met": True},
        {"figure": "p50", "value": 4, "unit": "ms", "peer": "bare", "peer_value": 2, "ratio": 2.0},
    ],
    "runs": 3,
    "machine": "a test",
}


def stack(tmp_path: Path) -> Status:
    return Status(pid=1, state=tmp_path, ready=True, addresses={}, processes=[])


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bench.py"
    path.write_text(text)
    return path


def test_the_last_line_is_the_figures_and_a_person_sees_a_table_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path, f"import sys\nprint('run 1', sys.argv[1])\nprint({json.dumps(LAST)!r})\n")
    shown = io.StringIO()
    assert run_bench(path, stack(tmp_path), [], Console(file=shown, force_terminal=True, width=120)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"run 1 {tmp_path / 'status.json'}"
    assert json.loads(printed[-1]) == LAST
    assert "nothing, 3 runs" in shown.getvalue()
    assert "12.5" in shown.getvalue()


def test_a_program_gets_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = io.StringIO()
    path = script(tmp_path, f"print({json.dumps(LAST)!r})\n")
    assert run_bench(path, stack(tmp_path), [], Console(file=shown)) == 0
    assert shown.getvalue() == ""
    assert json.loads(capsys.readouterr().out) == LAST


def test_a_benchmark_that_fails_or_says_nothing_usable_is_an_error(tmp_path: Path) -> None:
    path = script(tmp_path, "print('broken')\nraise SystemExit(4)\n")
    assert run_bench(path, stack(tmp_path), [], Console(file=io.StringIO())) == 4
    path = script(tmp_path, "print('no figures')\n")
    with pytest.raises(StackError, match=r"bench\.py did not end with a line of figures"):
        run_bench(path, stack(tmp_path), [], Console(file=io.StringIO()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"), [("doors", ["--clients", "50"]), ("fuzz", ["--inputs", "600"])]
)
def test_a_benchmark_without_servers_is_run_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    path = PROJECT / "bench" / f"{name}.py"
    assert run_bench(path, stack(tmp_path), arguments, Console(file=io.StringIO())) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["name"] == name
    assert len(told["figures"]) > 4


def test_whoever_is_behind_a_proxy_measures_this_machine(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        asks = "import os, urllib.request as u; assert u.proxy_bypass('127.0.0.1'), os.environ\n"
        path = script(tmp_path, f"{asks}print({json.dumps(LAST)!r})\n")
        assert run_bench(path, stack(tmp_path), [], Console(file=io.StringIO())) == 0
