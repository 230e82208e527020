"""The agent's own parts: what it lets the gateways reach, and its file. The rest is tested at the gateway."""

import ast
import asyncio
import importlib.util
import ipaddress
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "latchkey-agent.py"


@pytest.fixture(scope="module")
def agent() -> ModuleType:
    spec = importlib.util.spec_from_file_location("latchkey_agent", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_it_needs_nothing_but_python_3_9() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None
    }
    assert len(imported) > 10
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("rule", "host", "address", "port", "admitted"),
    [
        ("localhost", "anything", "127.0.0.1", 80, True),
        ("localhost", "anything", "::1", 80, True),
        ("localhost", "localhost", "192.168.1.5", 80, False),
        ("localhost:22", "x", "127.0.0.1", 80, False),
        ("192.168.1.20", "x", "192.168.1.20", 554, True),
        ("192.168.1.20", "x", "192.168.1.21", 554, False),
        ("192.168.1.20:554", "x", "192.168.1.20", 554, True),
        ("192.168.1.20:554", "x", "192.168.1.20", 555, False),
        ("192.168.1.0/24", "x", "192.168.1.77", 1, True),
        ("192.168.1.0/24:80", "x", "192.168.1.77", 1, False),
        ("192.168.1.0/24", "x", "192.168.2.77", 1, False),
        ("fd00::/8", "x", "fd00::1", 1, True),
        ("[fd00::1]:443", "x", "fd00::1", 443, True),
        ("[fd00::1]:443", "x", "fd00::1", 444, False),
        ("fd00::1", "x", "fd00::1", 444, True),
        ("camera.lan", "Camera.LAN.", "10.0.0.1", 554, True),
        ("camera.lan", "other.lan", "10.0.0.1", 554, False),
        ("camera.lan:554", "camera.lan", "10.0.0.1", 80, False),
    ],
)
def test_a_rule_admits_just_what_it_names(  # noqa: PLR0917 - pytest passes parameters by name
    agent: Any, rule: str, host: str, address: str, port: int, admitted: bool
) -> None:
    assert agent.Rule.parse(rule).admits(host, ipaddress.ip_address(address), port) is admitted


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "10.0.0.1/24",
        "10.0.0",
        "[::1",
        "[::1]80",
        "[::1]:",
    ],
)
def test_what_is_no_rule_is_refused(agent: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        agent.Rule.parse(text)


def test_ipv4_written_as_ipv6_is_ipv4(agent: Any) -> None:
    assert agent.plain_address("::ffff:10.0.0.1") == ipaddress.ip_address("10.0.0.1")


async def test_what_was_checked_is_what_is_dialled(agent: Any) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await agent.dial_service("localhost", port, [agent.Rule.parse("127.0.0.1")])
    assert writer.get_extra_info("peername")[0] == "127.0.0.1"
    writer.close()
    for rule in ("10.0.0.0/8", f"127.0.0.1:{port + 1 if port < 65535 else 1}"):
        with pytest.raises(agent.NotAllowedError):
            await agent.dial_service("127.0.0.1", port, [agent.Rule.parse(rule)])
    with pytest.raises(agent.NotAllowedError):  # which a system takes for this machine
        await agent.dial_service("0.0.0.0", port, [agent.Rule.parse("localhost")])
    server.close()


def test_the_file_is_for_its_owner_only(agent: Any, tmp_path: Path) -> None:
    path = tmp_path / "below" / "agent.json"
    state = agent.State(path)
    state.load()
    state.device_id, state.key = "cam-1", "secret"
    state.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = agent.State(path)
    again.load()
    assert (again.device_id, again.key) == ("cam-1", "secret")
    path.chmod(0o640)
    with pytest.raises(agent.StopError) as stopped:
        agent.State(path).load()
    assert stopped.value.code == 5
    for broken in ("", "[]", "{}", '{"device_id": 1}'):
        path.write_text(broken)
        path.chmod(0o600)
        with pytest.raises(agent.StopError) as stopped:
            agent.State(path).load()
        assert stopped.value.code == 5
        assert "secret" not in str(stopped.value)
