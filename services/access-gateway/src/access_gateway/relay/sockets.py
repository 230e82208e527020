"""Sockets that are no session's yet, or that a session is done with."""

import asyncio
import socket
import struct

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends RST and drops what is buffered
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_TCP = frozenset({socket.AF_INET, socket.AF_INET6})
_ACKNOWLEDGED = struct.Struct("120xQ")
"""Of Linux's ``struct tcp_info``: its field ``tcpi_bytes_acked``."""


class Listener(socket.socket):
    """A non-blocking TCP socket to listen on, which knows what it is.

    `accept` asks for that, and a socket finds out anew each time by way of two enumerations, which takes
    longer than the system call.
    """

    def __init__(self, family: socket.AddressFamily) -> None:
        super().__init__(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._known_family = family

    @property
    def family(self) -> socket.AddressFamily:
        """See `socket.socket`."""
        return self._known_family

    @property
    def type(self) -> socket.SocketKind:
        """See `socket.socket`."""
        return socket.SOCK_STREAM


def no_delay(sock: socket.socket) -> None:
    """Small writes go out at once; what a listener accepts inherits this."""
    if sock.family in _TCP:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_alive(sock: socket.socket) -> None:
    """Notice within a minute that the other end has vanished; what a listener accepts inherits this."""
    if sock.family in _TCP:
        for level, option, value in _KEEPALIVE:
            sock.setsockopt(level, option, value)


def taken(sock: socket.socket) -> int:
    """How many bytes the other end has taken of what was ever sent to it; 0 when that is not known."""
    if sock.family not in _TCP or sock.fileno() < 0:
        return 0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
    return _ACKNOWLEDGED.unpack(info)[0] if len(info) == _ACKNOWLEDGED.size else 0


def tune(sock: socket.socket) -> None:
    """Both of the above."""
    no_delay(sock)
    keep_alive(sock)


def reset(sock: socket.socket) -> None:
    """Close with a reset: nothing that is buffered is delivered. Does nothing when it is closed."""
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()


def reset_transport(transport: asyncio.Transport) -> None:
    """The same for a transport, also for one that is closing and waits for its other end to take or say more.

    One that is lost has no socket any more, in TLS a step before its protocol is told of the loss.
    """
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
