"""Every example of the README is run as it stands, and shows what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from devstack.world import World, until


@pytest.mark.timeout(120)
async def test_the_tour_does_what_it_says(world: World, project: Path, tmp_path: Path) -> None:
    text = (project / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5, "the README has lost its examples"
    script = "set -euo pipefail\n"
    for number, block in enumerate(blocks):
        script += f"echo '--- {number}'\n{block}\necho\n"
    script = script.replace("/tmp/", f"{tmp_path}/").replace("./latchkey", str(project / "latchkey"))
    environment = {**os.environ, "LATCHKEY_STATE": str(world.state.path)}
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs here meanwhile
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"^--- \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    for block, shown in zip(blocks, parts, strict=True):
        for expected in re.findall(r"^# => (.*)$", block, re.MULTILINE):
            assert expected in re.sub(r"(?<=[:,]) ", "", shown) or expected in shown, (
                f"{block}\nshowed\n{shown}"
            )

    async def cut_is_projected() -> bool:
        bob = await world.account("bob@example.test")
        items = (await bob.ask("{ login { devices { items { name } } } }"))["login"]["devices"]["items"]
        return all(item["name"] != "Workshop PC" for item in items)

    await until(cut_is_projected)


@pytest.mark.timeout(180)
async def test_the_demo_plays_to_its_end_again_and_again(world: World, project: Path) -> None:
    for _ in range(2):
        done = subprocess.run(  # noqa: ASYNC221 - as above
            [project / "latchkey", "demo", "--state", world.state.path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
