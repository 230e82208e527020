"""The byte pump: two ends become one connection, until both are done or it is cut.

Each direction is closed by itself (half-close), reads stop while the other side cannot take more, and a cut
resets both ends at once: nothing that waits in a buffer is delivered any more.
"""

import asyncio
import socket

from access_gateway.relay.engine import Engine, Owner
from access_gateway.relay.pump import Address, SocketSession
from access_gateway.relay.session import End, Limits, Session
from access_gateway.relay.sockets import Listener, no_delay, reset, reset_transport, tune
from access_gateway.relay.streams import StreamSession

__all__ = [
    "End",
    "Engine",
    "Limits",
    "Listener",
    "Owner",
    "Session",
    "adopt",
    "dial",
    "no_delay",
    "reset",
    "reset_transport",
    "tune",
]


def adopt(
    engine: Engine,
    client: socket.socket | asyncio.Transport,
    target: socket.socket | asyncio.Transport,
    limits: Limits,
    *,
    early: bytes = b"",
) -> Session:
    """Relay between two ends that are connected: non-blocking sockets, or established transports (TLS).

    The one way in for every protocol. ``early`` is what the protocol has read of the client beyond its own
    part. Nothing moves before the caller has the session, so that whoever may cut it can. The ends are the
    session's from now on: nobody else may use a socket; a transport's reading must have been paused, and its
    protocol is replaced.
    """
    if isinstance(client, socket.socket) and isinstance(target, socket.socket) and not early:
        session = SocketSession(engine, client, target, limits)
        session.start()
        return session
    return StreamSession(engine, client, target, limits, early)


def dial(
    engine: Engine,
    client: socket.socket,
    target: tuple[int, Address],
    limits: Limits,
    *,
    seconds: float,
    owner: Owner,
) -> Session:
    """Connect to ``target`` (address family and address), then relay as `adopt` does.

    Its ``owner`` is told. The session ends as UNREACHABLE when the target cannot be connected, or that takes
    longer than ``seconds``. The client must send small writes at once already (it inherits that of its
    listener).

    Raises:
        OSError: there can be no more sockets; the client is untouched.
    """
    family, address = target
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    session = SocketSession(engine, client, sock, limits)
    session.dial(address, seconds, owner)
    return session
