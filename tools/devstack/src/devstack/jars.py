"""The broker's jars: a pinned list with hashes, fetched once into the user's cache."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Generator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import requests
from jgo.maven import MavenContext, PythonResolver

from devstack.process import StackError

_ATTEMPTS = 3

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all."""


class Jar(NamedTuple):
    """One file of the list ``jars.json``; ``coordinates`` are group:artifact:version."""

    coordinates: str
    sha256: str
    size: int

    def path(self, cache: Path) -> Path:
        """Where it lies in the cache (the layout of a Maven repository)."""
        group, artifact, version = self.coordinates.split(":")
        return cache / group.replace(".", "/") / artifact / version / f"{artifact}-{version}.jar"


def pinned() -> tuple[Jar, ...]:
    """The broker and everything it needs, one version each."""
    document = json.loads(files("devstack").joinpath("jars.json").read_text())
    return tuple(Jar(item["coordinates"], item["sha256"], item["bytes"]) for item in document["jars"])


def cache_directory() -> Path:
    """Where jars are kept for all stacks of this user (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "latchkey" / "jars"


def missing(cache: Path) -> list[Jar]:
    """The jars that must be fetched, by presence and size; `fetch` checks the hashes of those it fetches."""
    return [
        jar for jar in pinned() if not (path := jar.path(cache)).is_file() or path.stat().st_size != jar.size
    ]


def fetch(cache: Path | None = None, progress: Progress = lambda _there, _all: None) -> list[Path]:
    """Make sure that every jar is in the cache, whole and with the pinned hash; returns their paths.

    Several may call it at once. What a killed download left is fetched again.

    Raises:
        StackError: no network, no room, or a file that is not the pinned one.
    """
    cache = cache or cache_directory()
    stamp = cache / "verified"
    wanted = pinned()
    fingerprint = hashlib.sha256(repr(wanted).encode()).hexdigest()
    if not missing(cache) and stamp.is_file() and stamp.read_text() == fingerprint:
        return [jar.path(cache) for jar in wanted]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock"):
            _fetch_all(cache, wanted, progress)
            stamp.write_text(fingerprint)
    except OSError as error:
        raise StackError(
            f"The Kafka jars cannot be kept in {cache}: {error.strerror or error}. Make room there, or set "
            "XDG_CACHE_HOME to another directory."
        ) from error
    return [jar.path(cache) for jar in wanted]


def _fetch_all(cache: Path, wanted: tuple[Jar, ...], progress: Progress) -> None:
    total = sum(jar.size for jar in wanted)
    there = 0

    @contextlib.contextmanager
    def one_file(_name: str, _size: int) -> Generator[Callable[[int], None]]:
        received = 0

        def add(count: int) -> None:
            nonlocal received
            received += count
            progress(min(there + received, total), total)

        yield add

    context = MavenContext(
        repo_cache=cache,
        local_repos=[],
        timeout=30,
        resolver=PythonResolver(progress_callback=one_file),
    )
    for jar in wanted:
        _fetch_one(jar, cache, context)
        there += jar.size
        progress(there, total)


def _fetch_one(jar: Jar, cache: Path, context: MavenContext) -> None:
    path = jar.path(cache)
    group, artifact, version = jar.coordinates.split(":")
    problem = "it could not be downloaded"
    for _ in range(_ATTEMPTS):
        if path.is_file() and _sha256(path) == jar.sha256:
            return
        path.unlink(missing_ok=True)  # a killed download leaves a part, which would be taken for the whole
        try:
            context.project(group, artifact).at_version(version).artifact().resolve()
            problem = "what was downloaded is not the pinned file"
        except requests.RequestException as error:
            problem = f"no answer from the repository ({type(error).__name__})"
        except RuntimeError as error:
            problem = str(error)
    if path.is_file() and _sha256(path) == jar.sha256:
        return
    path.unlink(missing_ok=True)
    raise StackError(
        f"The jar {jar.coordinates} cannot be had: {problem}. Check the network (and a proxy's settings), "
        "then try again; what was fetched is kept."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
