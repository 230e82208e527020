"""Connects to a service, if its address lies where this gateway may dial."""

import asyncio
import socket
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from access_gateway.policy import ServiceAccess
from access_gateway.settings import Network

Address = IPv4Address | IPv6Address

_IPV4 = 4
_REMEMBERED = 10_000


class TargetNotAllowedError(Exception):
    """No address of the target lies in a network that may be dialled."""


class DeviceOfflineError(Exception):
    """The device is reached through its agent only, and that is not connected to this gateway."""


class TargetUnreachableError(Exception):
    """The target has no address, or none of them answers in time."""


def plain_address(text: str) -> Address:
    """An address without its zone; an IPv4 address that is written as IPv6 is the IPv4 address.

    Raises:
        ValueError: the text is no address.
    """
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def origin(source: Address) -> str:
    """What counts as one source: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from."""
    if isinstance(source, IPv6Address):
        return str(ip_network((source, 64), strict=False))
    return str(source)


def may_dial(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks.

    Loopback and link-local addresses lie only in networks of that kind: a wide network such as 0.0.0.0/0 must
    not open this machine, or a cloud's metadata service. Unspecified and multicast addresses lie in none.
    """
    if address.is_unspecified or address.is_multicast:
        return False
    return any(
        address in network
        and (not address.is_loopback or network.is_loopback)
        and (not address.is_link_local or network.is_link_local)
        for network in networks
    )


class Targets:
    """Reaches services directly, within the networks that the operator allows."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._family = lru_cache(maxsize=_REMEMBERED)(self._literal)

    def direct(self, access: ServiceAccess) -> tuple[int, tuple[Any, ...]] | None:
        """Address family and socket address of a service that can be dialled without asking anybody.

        None: only `reach` can tell, or refuse.
        """
        family = self._family(access.target_host)
        return None if family is None else (family, (access.target_host, access.target_port))

    def _literal(self, host: str) -> int | None:
        """The family of an address that may be dialled; None for a name, and for what may not."""
        try:
            address = ip_address(host)
        except ValueError:
            return None
        if not may_dial(plain_address(host), self._networks):
            return None
        return socket.AF_INET if address.version == _IPV4 else socket.AF_INET6

    async def reach(self, access: ServiceAccess, seconds: float) -> socket.socket:
        """A connected, non-blocking socket to the service.

        Raises:
            TargetNotAllowedError, TargetUnreachableError: see there.
        """
        return await dial(access.target_host, access.target_port, networks=self._networks, seconds=seconds)


async def dial(host: str, port: int, *, networks: Sequence[Network], seconds: float) -> socket.socket:
    """A connected, non-blocking socket. Names are resolved once; what was checked is what is dialled.

    Raises:
        TargetNotAllowedError, TargetUnreachableError: see there.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            allowed = [
                (family, address)
                for family, _, _, _, address in found
                if may_dial(plain_address(str(address[0])), networks)
            ]
            if not allowed:
                raise TargetNotAllowedError
            for family, address in allowed:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                try:
                    await loop.sock_connect(sock, address)
                except OSError:
                    sock.close()
                except BaseException:
                    sock.close()
                    raise
                else:
                    return sock
    except (OSError, TimeoutError, UnicodeError):  # UnicodeError: a name that DNS cannot have
        pass
    raise TargetUnreachableError
