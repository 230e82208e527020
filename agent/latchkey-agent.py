#!/usr/bin/env python3
"""Makes the services of this machine's network reachable through Latchkey, from behind a NAT or firewall.

The first time, with a one-time code that the device's owner gets from Latchkey:

    python3 latchkey-agent.py --gateway gateway.example.com:8443 --code XXXXX-XXXXX-XXXXX-XXXXX

and from then on without --code. Nothing listens here: the agent dials out to the gateways, over TLS, and
joins two connections for each session. It connects to nothing but what --allow names (by default this machine
itself). Python 3.9 or newer; needs nothing else. The protocol: docs/agent.md.

Exit codes: 0 stopped by a signal; 1 enrolling failed, nothing was changed, try again; 2 unusable arguments;
3 the code or the key is not valid (any more); 4 another agent took this one's place; 5 the state file cannot
be used.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import ipaddress
import json
import logging
import os
import random
import secrets
import signal
import socket
import ssl
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Union, cast

VERSION = "1.0"
PROTOCOL = 1
BUFFER_BYTES = 131_072
CHUNK_BYTES = 65_536
ANSWER_SECONDS = 20.0
"""How long a gateway may take to take a connection and to answer."""
DIAL_SECONDS = 10.0
"""How long a service here may take to take a connection."""
MOST_SESSIONS = 512
FIRST_PAUSE, LONGEST_PAUSE, STEADY_SECONDS = 0.5, 60.0, 30.0
EXIT_FAILED, EXIT_REFUSED, EXIT_REPLACED, EXIT_STATE = 1, 3, 4, 5
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Place = tuple[str, int]

log = logging.getLogger("latchkey-agent")


class StopError(Exception):
    """Going on is of no use: the message for the owner, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class LostError(Exception):
    """A gateway cannot be used now; ``pause`` is how long it asks to be left alone, in seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class NotAllowedError(Exception):
    """The owner does not let the gateways reach this."""


def split_place(text: str, *, port_required: bool) -> tuple[str, int | None]:
    """``HOST:PORT`` or ``[IPV6]:PORT``, without port where that may be; raises ValueError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1] if bracket else "[", rest[1:]
    elif ":" not in text or (text.count(":") > 1 and not port_required):
        host, colon, port = text, "", ""  # a name, or a bare IPv6 address
    else:
        host, colon, port = text.rpartition(":")
    if not host or colon not in {"", ":"} or bool(colon) != bool(port) or (port_required and not port):
        raise ValueError(f"{text!r} is not of the form HOST:PORT")
    if port and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r}: a port is a number from 1 to 65535")
    return host, int(port) if port else None


class Rule(NamedTuple):
    """One ``--allow``: a name, or networks; ``port`` None is every port."""

    name: str | None
    networks: tuple[Network, ...]
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """``HOST``, ``ADDRESS`` or ``NETWORK/BITS``, each with or without ``:PORT``; raises ValueError."""
        host, port = split_place(text, port_required=False)
        if host.lower() == "localhost":
            return cls(None, LOOPBACK, port)
        try:
            return cls(None, (ipaddress.ip_network(host),), port)
        except ValueError:
            if "/" in host or host.replace(".", "").isdigit():
                raise
            return cls(host.lower().rstrip("."), (), port)

    def admits(self, host: str, address: Address, port: int) -> bool:
        """Whether ``host``, of which ``address`` was found, may be dialled on ``port``."""
        if self.port not in (None, port):
            return False
        return host.lower().rstrip(".") == self.name or any(address in network for network in self.networks)


def plain_address(text: str) -> Address:
    """An address without its zone; IPv4 that is written as IPv6 is IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


async def dial_service(
    host: str, port: int, rules: list[Rule]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a service; names are resolved once, and what was checked is what is dialled.

    Raises:
        NotAllowedError: no rule admits it.
        OSError: it does not answer.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(item[4][0]) for item in found]
    allowed = [
        each for each in addresses if any(rule.admits(host, plain_address(each), port) for rule in rules)
    ]
    if not allowed:
        raise NotAllowedError
    failure: OSError = OSError("no address")
    for address in allowed:
        try:
            return await asyncio.open_connection(address, port)
        except OSError as error:
            failure = error
    raise failure


class State:
    """The file with the device's key. Only its owner can read it; it is always replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.device_id = ""
        self.key = ""
        self.next_key = ""
        """A key that is being enrolled; kept before it is sent, so that no lost answer loses it."""
        self.enrolled_by = ""
        """The hash of the code that enrolled `key`."""
        self.gateways: list[str] = []

    def load(self) -> None:
        """Read the file, if there is one; raises StopError."""
        try:
            mode = self.path.stat().st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StopError(
                    f"{self.path} can be read by others. Make it yours only: chmod 600 {self.path}",
                    EXIT_STATE,
                )
            data = json.loads(self.path.read_text())
            self.device_id, self.key = str(data["device_id"]), str(data["key"])
            self.next_key, self.enrolled_by = str(data["next_key"]), str(data["enrolled_by"])
            self.gateways = [str(item) for item in data["gateways"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StopError(f"{self.path} cannot be used: {error}", EXIT_STATE) from None

    def save(self) -> None:
        """Write the file, mode 0600; raises StopError."""
        text = json.dumps(
            {
                "device_id": self.device_id,
                "key": self.key,
                "next_key": self.next_key,
                "enrolled_by": self.enrolled_by,
                "gateways": self.gateways,
            },
            indent=1,
        )
        beside = self.path.with_name(self.path.name + ".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            raise StopError(f"{self.path} cannot be written: {error}", EXIT_STATE) from None


class Stream:
    """A TLS connection to a gateway, read by lines until the payload begins."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, place: Place, tls: ssl.SSLContext) -> Stream:
        """Connect and verify the gateway; raises LostError."""
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(*place, ssl=tls, limit=BUFFER_BYTES), ANSWER_SECONDS
            )
        except ssl.SSLCertVerificationError as error:
            raise LostError(f"its certificate cannot be trusted ({error.verify_message}); see --ca") from None
        except (OSError, asyncio.TimeoutError, UnicodeError) as error:
            raise LostError(f"cannot be reached ({error or type(error).__name__})") from None
        keep_alive(writer)
        return cls(reader, writer)

    def send(self, message: dict[str, Any]) -> None:
        """Write a message."""
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self, seconds: float | None) -> dict[str, Any]:
        """The next message; raises LostError when none comes."""
        try:
            line = await asyncio.wait_for(self.reader.readline(), seconds)
            message = json.loads(line) if line.endswith(b"\n") else None
        except (OSError, ValueError, RecursionError, asyncio.TimeoutError) as error:
            raise LostError(f"does not answer ({error or type(error).__name__})") from None
        if message is None:
            raise LostError("has closed the connection")
        if not isinstance(message, dict):
            raise LostError("does not speak as agreed")
        return cast("dict[str, Any]", message)

    def abort(self) -> None:
        """Close without waiting for anything."""
        self.writer.transport.abort()


def keep_alive(writer: asyncio.StreamWriter) -> None:
    """No delay for small writes; keep the way through the NAT open and notice when the other end is gone."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


class Session:
    """One connection dialled back to a gateway: it waits there until it is needed, then carries a session."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._received = 0
        self._end: int | None = None
        self._target: asyncio.StreamWriter | None = None

    def end_after(self, count: int) -> None:
        """The client sends ``count`` bytes in all; then the service is told that nothing more comes."""
        self._end = count
        self._pass_end()

    def _pass_end(self) -> None:
        if self._end is not None and self._received >= self._end and self._target is not None:
            self._end = None
            with contextlib.suppress(OSError, RuntimeError):
                self._target.write_eof()

    async def run(self, place: Place, tls: ssl.SSLContext, rules: list[Rule]) -> None:
        """Dial the gateway, wait for what to reach, and join both; raises LostError."""
        gateway = await Stream.connect(place, tls)
        try:
            gateway.send({"type": "data", "token": self._token})
            message = await gateway.receive(None)
            if message.get("type") != "dial":
                raise LostError("took no session")
            await self._serve(gateway, str(message.get("host")), int(message.get("port", 0)), rules)
        finally:
            gateway.abort()

    async def _serve(self, gateway: Stream, host: str, port: int, rules: list[Rule]) -> None:
        reason = "unreachable"
        try:
            reader, target = await asyncio.wait_for(dial_service(host, port, rules), DIAL_SECONDS)
        except NotAllowedError:
            reason = "not_allowed"
            log.warning(
                "Refused: %s port %s is not allowed here. To allow it: --allow %s:%s", host, port, host, port
            )
        except (OSError, ValueError, OverflowError, asyncio.TimeoutError) as error:
            log.info("%s port %s does not answer (%s).", host, port, error or type(error).__name__)
        else:
            log.debug("A session to %s port %s has begun.", host, port)
            self._target = target
            keep_alive(target)
            gateway.send({"type": "ready"})
            await self._join(gateway, reader, target)
            log.debug("A session to %s port %s has ended.", host, port)
            return
        gateway.send({"type": "failed", "reason": reason})
        await close(gateway.writer)

    async def _join(
        self, gateway: Stream, reader: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        to_target = asyncio.ensure_future(self._to_target(gateway.reader, target))
        to_gateway = asyncio.ensure_future(copy(reader, gateway.writer))
        try:
            # Whichever side is at its end: TLS knows no half-closed connections, so that ends the session.
            await asyncio.wait({to_target, to_gateway}, return_when=asyncio.FIRST_COMPLETED)
            if to_gateway.done() and to_gateway.exception() is None:
                await close(gateway.writer)
            elif to_target.done() and to_target.exception() is None:
                await close(target)
        finally:
            for task in (to_target, to_gateway):
                task.cancel()
            await asyncio.gather(to_target, to_gateway, return_exceptions=True)
            target.transport.abort()

    async def _to_target(self, reader: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        self._pass_end()
        while True:
            data = await reader.read(CHUNK_BYTES)
            if not data:
                return
            self._received += len(data)
            target.write(data)
            self._pass_end()
            await target.drain()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that can be read, as fast as it can be written."""
    while True:
        data = await reader.read(CHUNK_BYTES)
        if not data:
            return
        writer.write(data)
        await writer.drain()


async def close(writer: asyncio.StreamWriter) -> None:
    """Deliver what is buffered, then close."""
    writer.close()
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(writer.wait_closed(), ANSWER_SECONDS)


class Link:
    """The control connection to one gateway, made again whenever it is lost."""

    def __init__(self, agent: Agent, address: str) -> None:
        self._agent, self._address = agent, address
        host, port = split_place(address, port_required=True)
        self._place: Place = (host, port or 0)
        self.connected = False

    async def enrol(self, code: str) -> dict[str, Any]:
        """Exchange the code; the gateway's welcome. Raises LostError, StopError."""
        gateway = await Stream.connect(self._place, self._agent.tls)
        try:
            key = self._agent.state.next_key
            gateway.send({"type": "enrol", "code": code, **self._agent.credentials(key)})
            return self._expect_welcome(await gateway.receive(ANSWER_SECONDS))
        finally:
            gateway.abort()

    async def run(self) -> None:
        """Keep the connection until cancelled; raises StopError."""
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            asked = 0.0
            if self._agent.needs(self._address):
                try:
                    await self._connection()
                except LostError as error:
                    asked = error.pause
                    log.warning("The gateway %s %s. Trying again.", self._address, error)
                finally:
                    self.connected = False
            if loop.time() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            # Jitter: agents that lost the same gateway must not come back together.
            await asyncio.sleep(max(asked, pause) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _connection(self) -> None:
        gateway = await Stream.connect(self._place, self._agent.tls)
        try:
            state = self._agent.state
            gateway.send(
                {"type": "login", "device_id": state.device_id, **self._agent.credentials(state.key)}
            )
            welcome = self._expect_welcome(await gateway.receive(ANSWER_SECONDS))
            ping_seconds = min(max(float(welcome.get("ping_seconds", 20)), 1.0), 600.0)
            self.connected = True
            log.info("Connected to the gateway %s as device %s.", self._address, self._agent.state.device_id)
            self._agent.told(welcome.get("gateways"))
            pinging = asyncio.ensure_future(self._ping(gateway, ping_seconds))
            try:
                while True:
                    self._handle(await gateway.receive(3 * ping_seconds))
                    if not self._agent.needs(self._address):
                        return
            finally:
                pinging.cancel()
        except (KeyError, OverflowError, TypeError, ValueError):
            raise LostError("does not speak as agreed") from None
        finally:
            gateway.abort()

    async def _ping(self, gateway: Stream, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            gateway.send({"type": "ping"})

    def _handle(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "open":
            self._open(str(message["token"]))
        elif kind == "end" and message.get("token") in self._agent.sessions:
            self._agent.sessions[message["token"]][0].end_after(int(message["bytes"]))
        elif kind == "gateways":
            self._agent.told(message.get("gateways"))
        elif kind == "refused":
            self._refused(message)

    def _expect_welcome(self, message: dict[str, Any]) -> dict[str, Any]:
        if message.get("type") == "refused":
            self._refused(message)
        if message.get("type") != "welcome":
            raise LostError("does not speak as agreed")
        return message

    def _refused(self, message: dict[str, Any]) -> NoReturn:
        code = str(message.get("code"))
        if code == "REFUSED":
            raise StopError(
                "The gateway refuses. The code is wrong, used or older than ten minutes; or this device was"
                " removed, has another owner, or lost its agent. Get a new code and start with --code.",
                EXIT_REFUSED,
            )
        if code == "EVICTED":
            raise StopError("Another agent has logged in as this device, so this one stops.", EXIT_REPLACED)
        if code == "UNSUPPORTED_PROTOCOL":
            raise StopError("The gateway speaks another version. Get its latchkey-agent.py.", EXIT_REFUSED)
        pause = message.get("retry_seconds", 0)
        raise LostError(
            f"answers {code}", min(float(pause), 600.0) if isinstance(pause, (int, float)) else 0.0
        )

    def _open(self, token: str) -> None:
        if len(self._agent.sessions) >= MOST_SESSIONS:
            log.warning("More than %s sessions at once: no more are begun.", MOST_SESSIONS)
            return
        session = Session(token)
        task = asyncio.ensure_future(self._session(session))
        self._agent.sessions[token] = (session, task)
        task.add_done_callback(lambda _: self._agent.sessions.pop(token, None))

    async def _session(self, session: Session) -> None:
        try:
            await session.run(self._place, self._agent.tls, self._agent.rules)
        except (LostError, OSError) as error:
            log.debug("A session at the gateway %s ended: it %s", self._address, error)
        except Exception:  # one session must not end the others
            log.exception("A session failed.")


class Agent:
    """All links of one device."""

    def __init__(self, state: State, tls: ssl.SSLContext, rules: list[Rule], seeds: list[str]) -> None:
        self.state, self.tls, self.rules = state, tls, rules
        self._seeds = seeds
        self._told: list[str] = []
        self._links: dict[str, tuple[Link, asyncio.Future[None]]] = {}
        self.sessions: dict[str, tuple[Session, asyncio.Future[None]]] = {}
        self._instance = secrets.token_urlsafe(12)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def credentials(self, key: str) -> dict[str, Any]:
        """What proves who this is, and says what it speaks."""
        return {"key": key, "protocol": PROTOCOL, "instance": self._instance, "agent": VERSION}

    async def enrol(self, code: str) -> None:
        """Exchange the code at the first gateway; raises StopError. The same code again does nothing more."""
        state = self.state
        by = hashlib.sha256("".join(code.upper().replace("-", "").split()).encode()).hexdigest()
        if state.device_id and state.enrolled_by == by:
            return
        if not state.next_key:
            state.next_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
            state.save()
        try:
            welcome = await Link(self, self._seeds[0]).enrol(code)
        except LostError as error:
            raise StopError(f"The gateway {self._seeds[0]} {error}.", EXIT_FAILED) from None
        state.device_id, state.key, state.next_key = str(welcome["device_id"]), state.next_key, ""
        state.enrolled_by, state.gateways = by, list(self._seeds)
        state.save()
        log.info("Enrolled as device %s. The key is in %s.", state.device_id, state.path)

    def needs(self, address: str) -> bool:
        """Whether to connect to a gateway: to each that we were told of, to others while nothing else is."""
        others = any(link.connected for name, (link, _) in self._links.items() if name != address)
        return address in self._told or not others

    def told(self, addresses: object) -> None:
        """A gateway says which there are."""
        if not isinstance(addresses, list):
            return
        usable: list[str] = []
        for address in cast("list[object]", addresses)[:64]:
            with contextlib.suppress(ValueError):
                split_place(str(address), port_required=True)
                usable.append(str(address))
        self._told = usable
        for address in usable:
            self._follow(address)
        for address, (link, task) in list(self._links.items()):
            if address not in usable and address not in self._seeds and not link.connected:
                task.cancel()
                del self._links[address]
        known = list(dict.fromkeys([*self._seeds, *usable]))
        if known != self.state.gateways:
            self.state.gateways = known
            try:
                self.state.save()
            except StopError as error:  # on a full disk the device stays online, and is told again
                log.warning("Which gateways there are could not be kept. %s", error)

    def _follow(self, address: str) -> None:
        if address not in self._links:
            link = Link(self, address)
            task = asyncio.ensure_future(link.run())
            task.add_done_callback(self._on_end)
            self._links[address] = (link, task)

    def _on_end(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self._ended.done():
            self._ended.set_exception(task.exception() or RuntimeError())

    async def run(self) -> None:
        """Serve until a signal; raises StopError."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            with contextlib.suppress(NotImplementedError, AttributeError):  # not on Windows
                if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:  # as by nohup
                    loop.add_signal_handler(getattr(signal, name), self._stop)
        for address in [*self._seeds, *self.state.gateways]:  # those told of before, should a seed be down
            self._follow(address)
        try:
            await self._ended
        finally:
            tasks = [task for _, task in [*self._links.values(), *self.sessions.values()]]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=2)

    def _stop(self) -> None:
        if not self._ended.done():
            log.info("Stopping.")
            self._ended.set_result(None)


def default_state() -> Path:
    """Where the key is kept unless the owner says otherwise."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "latchkey-agent" / "agent.json"


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with 2 when it cannot be used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--gateway", metavar="HOST:PORT", action="append", default=[],
                        help="where to dial first; needed the first time (may be given again)")  # fmt: skip
    parser.add_argument("--code", help="the one-time code from Latchkey: enrols this agent")
    parser.add_argument(
        "--allow", metavar="RULE", action="append", default=[], type=_rule,
        help="what may be reached through this agent: HOST, ADDRESS or NETWORK/BITS, each with or without"
        " :PORT (may be given again); default: this machine, --allow localhost",
    )  # fmt: skip
    parser.add_argument(
        "--ca", metavar="FILE", help="certificates that may sign a gateway's, in place of the system's"
    )
    parser.add_argument("--state", metavar="FILE", type=Path, default=default_state(),
                        help="where the device's key is kept (default: %(default)s)")  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="tell of every session")
    parser.add_argument("--version", action="version", version=f"latchkey-agent {VERSION}")
    arguments = parser.parse_args()
    for address in arguments.gateway:
        try:
            split_place(address, port_required=True)
        except ValueError as error:
            parser.error(f"argument --gateway: {error}")
    return arguments


def _rule(text: str) -> Rule:
    try:
        return Rule.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def serve(arguments: argparse.Namespace) -> None:
    """Enrol if there is a code, then serve; raises StopError."""
    try:
        tls = ssl.create_default_context(cafile=arguments.ca)
    except (OSError, ssl.SSLError) as error:
        raise StopError(f"--ca {arguments.ca} cannot be used: {error}", 2) from None
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    state = State(arguments.state)
    state.load()
    seeds = arguments.gateway or state.gateways
    if not seeds:
        raise StopError("Say where the gateway is: --gateway HOST:PORT", 2)
    if not state.device_id and not arguments.code:
        raise StopError(f"{state.path} holds no device's key yet. Start with --code the first time.", 2)
    agent = Agent(state, tls, arguments.allow or [Rule.parse("localhost")], seeds)
    if arguments.code:
        await agent.enrol(arguments.code)
    await agent.run()


def main() -> int:
    """Run; the exit code."""
    arguments = parse_arguments()
    logging.basicConfig(
        format="%(asctime)s %(message)s", level=logging.DEBUG if arguments.verbose else logging.INFO
    )
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        asyncio.run(serve(arguments))
    except StopError as error:
        log.error("%s", error)
        return error.code
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
