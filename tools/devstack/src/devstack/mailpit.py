"""Mailpit as the real SMTP server of a benchmark or test: built once with Go, in a cache directory.

`go install` refuses it (its module replaces another), so that a small module of its own requires it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from devstack.process import Process, free_port

VERSION = "v1.27.11"
_GO_MOD = f"""module latchkey.test/mailpit

go 1.24

require github.com/axllent/mailpit {VERSION}
"""
_TOOLS = """//go:build tools

package tools

import _ "github.com/axllent/mailpit"
"""


def kept() -> Path:
    """Where the program lies once it is built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "latchkey" / f"mailpit-{VERSION}" / "mailpit"


def built() -> Path | None:
    """The program, built if need be (a minute); None without Go or when it cannot be built."""
    program = kept()
    if program.exists():
        return program
    cache = program.parent
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "go.mod").write_text(_GO_MOD)
    (cache / "tools.go").write_text(_TOOLS)
    for step in (["mod", "tidy"], ["build", "-o", "mailpit.new", "github.com/axllent/mailpit"]):
        done = subprocess.run([go, *step], cwd=cache, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stderr[-2000:])
            return None
    (cache / "mailpit.new").rename(program)
    return program


def process(program: Path, log: Path, *, chaos: bool = False) -> tuple[Process, int, int]:
    """How to start it, and its SMTP and HTTP ports; it keeps every mail, in memory."""
    smtp, http = free_port(), free_port()
    options = ["--smtp", f"127.0.0.1:{smtp}", "--listen", f"127.0.0.1:{http}", "--max", "0"]
    options += ["--disable-version-check", "--smtp-disable-rdns", *(["--enable-chaos"] if chaos else [])]
    return Process(name="mailpit", argv=[str(program), *options], env={}, log=log), smtp, http
