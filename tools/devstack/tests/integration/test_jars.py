"""The cache of jars, without a network: a proxy that nobody listens on stands for it."""

from pathlib import Path

import pytest

from devstack import jars
from devstack.process import StackError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the user's cache, which is whole."""
    jars.fetch()
    for jar in jars.pinned():
        copy = jar.path(tmp_path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(jar.path(jars.cache_directory()))
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_whole_cache_needs_no_network(cache: Path) -> None:
    assert jars.missing(cache) == []
    assert len(jars.fetch(cache)) == len(jars.pinned())


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["absent", "truncated", "changed"])
def test_a_jar_that_is_not_the_pinned_one_is_never_used(cache: Path, damage: str) -> None:
    jar = min(jars.pinned(), key=lambda jar: jar.size)
    path = jar.path(cache)
    whole = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(whole[:-1])
    elif damage == "changed":
        path.write_bytes(b"x" + whole[1:])
    with pytest.raises(StackError, match=f"The jar {jar.coordinates} cannot be had: .*network"):
        jars.fetch(cache)
    assert not path.exists()


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.cache_directory() == tmp_path / "latchkey" / "jars"
    assert len(jars.missing(jars.cache_directory())) == len(jars.pinned())


def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"cannot be kept in .*Make room there, or set XDG_CACHE_HOME"):
        jars.fetch(tmp_path / "file" / "cache")
