"""The servers that stand for the customer's world, one verb each: ``devstack-demo issuer --port 8482``.

Imports none of them before it is asked for, and nothing of the embedded stack: in containers there is none.
"""

import importlib
import os
import sys
from pathlib import Path

import typer

MODULES = {
    "mailbox": "devstack.smtp",
    "issuer": "devstack.issuer",
    "registry": "devstack.registry",
    "targets": "devstack.targets",
    "container-secrets": "devstack.container_secrets",
}
"""Each module has a ``main`` whose options are its command line."""


def run(verb: str) -> None:
    """Run the ``main`` behind a verb on the rest of the command line, and exit."""
    del sys.argv[1]
    typer.run(importlib.import_module(MODULES[verb]).main)


def main() -> None:
    """The console script."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in MODULES:
        sys.exit(f"devstack-demo: say which: {', '.join(MODULES)}")
    directory = os.environ.get("LATCHKEY_SECRETS_DIR")
    if directory:  # as `servicekit.settings` reads them: files named like the variables
        for file in Path(directory).glob("latchkey_*"):
            os.environ[file.name.upper()] = file.read_text()
    run(verb)
