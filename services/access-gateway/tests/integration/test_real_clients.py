"""Programs that were not written for us: OpenSSH, curl and a browser come to services through the doors."""

import asyncio
import hashlib
import os
import random
import shutil
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from access_gateway.protocols.names import host_name

if TYPE_CHECKING:
    from conftest import Devices, Doorway, Gateways, World

    from devstack.certificates import Files
    from devstack.issuer import IssuerServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCP_BYTES = int(os.environ.get("LATCHKEY_TEST_SCP_BYTES", "20000000"))
"""How much scp sends and fetches; 1000000000 for the whole proof."""

SCRIPT = """([address, token]) => new Promise(done => {
    const socket = new WebSocket(address, ["latchkey.v1", "bearer." + token]);
    const said = new Uint8Array(300000).map((_, i) => i * 7);
    const heard = new Uint8Array(said.length);
    let length = 0;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(said);
    socket.onmessage = event => {
        heard.set(new Uint8Array(event.data), length);
        length += event.data.byteLength;
        if (length == said.length) {
            window.ended = new Promise(over => socket.onclose = end => over([end.code, end.reason]));
            done({protocol: socket.protocol, same: said.every((byte, i) => byte == heard[i])});
        }
    };
    socket.onclose = event => done({code: event.code, reason: event.reason});
})"""


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/lib/openssh"):
            pytest.skip(f"there is no {program} on this machine")


async def run(*command: str | Path, stdin: bytes = b"", **environment: str) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of a program, while the gateway goes on in this process."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,  # it may end without reading
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        async with asyncio.timeout(120):
            output, errors = await process.communicate(stdin or None)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output, errors


@pytest.fixture
async def doorway(gateways: "Gateways", issuer: "IssuerServer", certificates: "Files") -> "Doorway":
    return await gateways.doorway(issuer, certificates)


@pytest.fixture
async def sshd(tmp_path: Path) -> AsyncGenerator[int]:
    """The port of an OpenSSH server that lets this user in by the key ``tmp_path/key``."""
    needs("sshd", "ssh", "scp", "ssh-keygen")
    for name in ("key", "host"):
        await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/key.pub\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        await run("mkdir", "-p", "/run/sshd")  # where it locks itself in
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin") or ""
    process = await asyncio.create_subprocess_exec(
        program, "-D", "-e", "-f", config, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"listening" not in (line := await process.stderr.readline()):
            assert line, "sshd did not start"
    yield port
    process.terminate()
    await process.communicate()


def ssh_config(tmp_path: Path, proxy: str) -> Path:
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *.latchkey\n  ProxyCommand {proxy}\n  IdentityFile {tmp_path}/key\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {tmp_path}/known\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
        "  BatchMode yes\n"
    )
    return config


@pytest.mark.parametrize("by", ["socat", "connect-proxy", "proxytunnel"])
async def test_openssh_logs_in_copies_and_forwards(  # noqa: PLR0917 - fixtures by name
    world: "World",
    devices: "Devices",
    doorway: "Doorway",
    sshd: int,
    tmp_path: Path,
    by: str,
    certificates: "Files",
) -> None:
    needs(by)
    await world.device("80:00:00:00:01:00:0A:01", ("127.0.0.1", sshd), service_id="80:00:00:00:01:00:0A:02")
    await world.share("80:00:00:00:01:00:0A:01", "ann")
    token, port = doorway.token("ann"), doorway.plain
    proxy = {
        "socat": f"socat - PROXY:127.0.0.1:%h:%p,proxyport={port},proxyauth=ann:{token}",
        "connect-proxy": f"env HTTP_PROXY_PASSWORD={token} connect-proxy -H ann@127.0.0.1:{port} %h %p",
        "proxytunnel": f"proxytunnel -q -E -C {certificates.ca} -p localhost:{doorway.tls} -d %h:%p "
        f'-H "Proxy-Authorization: Bearer {token}"',
    }[by]
    config = ssh_config(tmp_path, proxy)
    host = host_name("80:00:00:00:01:00:0A:02")
    code, output, errors = await run("ssh", "-F", config, host, "echo $((6 * 7)); exit 5")
    assert (code, output) == (5, b"42\n"), errors
    if by == "socat":
        await _copies(config, host, tmp_path)
        await _forwards(config, host, devices)
    await world.revoke("80:00:00:00:01:00:0A:01")
    code, _, _ = await run("ssh", "-F", config, host, "true")
    assert code == 255


async def _copies(config: Path, host: str, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    with sent.open("wb") as file:
        for _ in range(0, SCP_BYTES, 1_000_000):
            file.write(random.randbytes(1_000_000))
    for one, other in ((str(sent), f"{host}:{tmp_path}/there"), (f"{host}:{tmp_path}/there", str(back))):
        code, _, errors = await run("scp", "-q", "-F", config, one, other)
        assert code == 0, errors
    hashes: set[str] = set()
    for path in (sent, tmp_path / "there", back):
        with path.open("rb") as file:
            hashes.add(hashlib.file_digest(file, "sha256").hexdigest())
        path.unlink()
    assert len(hashes) == 1


async def _forwards(config: Path, host: str, devices: "Devices") -> None:
    _, target = await devices.echo()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    forward = await asyncio.create_subprocess_exec(
        "ssh", "-F", config, "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{port}:127.0.0.1:{target}", host
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
            data = random.randbytes(300_000)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.close()
    finally:
        forward.terminate()
        await forward.wait()


@pytest.mark.parametrize("secure", [False, True])
async def test_curl_asks_a_device_through_the_proxy(
    world: "World", devices: "Devices", doorway: "Doorway", certificates: "Files", secure: bool
) -> None:
    needs("curl")
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nthe panel"
    service = await world.device("panel", await devices.says(said))
    await world.share("panel", "ann")
    proxy = f"https://localhost:{doorway.tls}" if secure else f"http://127.0.0.1:{doorway.plain}"
    common = [
        "curl",
        "-sS",
        "-p",
        "-x",
        proxy,
        "--proxy-cacert",
        str(certificates.ca),
        "-w",
        "%{http_connect}",
    ]
    address = f"http://{host_name(service)}/"
    for credentials in (
        ["--proxy-header", f"Proxy-Authorization: Bearer {doorway.token('ann')}"],
        ["--proxy-user", f"ann:{doorway.token('ann')}"],
        ["--proxy-anyauth", "--proxy-user", f"ann:{doorway.token('ann')}"],
    ):
        code, output, errors = await run(*common, *credentials, address)
        assert (code, output[:9], output[-3:]) == (0, b"the panel", b"200"), errors
    code, output, _ = await run(*common, "--proxy-user", f"bob:{doorway.token('bob')}", address)
    assert (code, output) == (56, b"403")
    code, output, _ = await run(*common, address)
    assert (code, output) == (56, b"407")


async def test_a_browser_talks_to_a_device_and_learns_why_it_is_cut(
    world: "World", devices: "Devices", gateways: "Gateways", issuer: "IssuerServer", certificates: "Files"
) -> None:
    needs("chromium")
    from playwright.async_api import async_playwright

    # Only a page of this machine may open a WebSocket to it without a question to its user.
    origins = [f"http://127.0.0.1:{(await devices.page())[1]}" for _ in range(2)]
    doorway = await gateways.doorway(issuer, certificates, web_origins=(origins[0],))
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    address = f"ws://127.0.0.1:{doorway.plain}/v1/connect/{service}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        try:
            page = await browser.new_page()
            await page.goto(origins[0])
            found = await page.evaluate(SCRIPT, [address, doorway.token("ann")])
            assert found == {"protocol": "latchkey.v1", "same": True}
            await world.revoke("dev-1")
            assert await page.evaluate("window.ended") == [4410, "GRANT_ENDED"]
            found = await page.evaluate(SCRIPT, [address, doorway.token("ann")])
            assert found == {"code": 4403, "reason": "ACCESS_DENIED"}
            await page.goto(origins[1])
            found = await page.evaluate(SCRIPT, [address, doorway.token("owner")])
            assert found["code"] == 1006  # the handshake was refused
        finally:
            await browser.close()
