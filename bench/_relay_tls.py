"""For bench/relay.py: the gateway's pump behind a TLS listener (serve), and a client that reads (read)."""

import asyncio
import json
import socket
import ssl
import sys
import time
from typing import cast

import uvloop

from access_gateway.relay import Engine, Limits, adopt


async def serve(port: int, target: int, certificate: str) -> None:
    """Relay whoever comes over TLS 1.3 to a port of this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate)
    loop, engine = asyncio.get_running_loop(), Engine()

    class Door(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            client = cast("asyncio.Transport", transport)
            client.pause_reading()
            device = socket.create_connection(("127.0.0.1", target))
            device.setblocking(False)
            adopt(engine, client, device, Limits(3600.0))

    with engine.running():
        server = await loop.create_server(Door, "127.0.0.1", port, ssl=context)
        await server.serve_forever()


def read(port: int, seconds: float) -> dict[str, float]:
    """Read for some seconds, after half a second that does not count."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    buffer, count = bytearray(1 << 18), 0
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as sock:
        begun = time.monotonic() + 0.5
        while time.monotonic() < begun:
            sock.recv_into(buffer)
        while (took := time.monotonic() - begun) < seconds:
            count += sock.recv_into(buffer)
    return {"bytes": count, "seconds": took, "warm_seconds": 0.5}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvloop.run(serve(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
    else:
        print(json.dumps(read(int(sys.argv[2]), float(sys.argv[3]))))
