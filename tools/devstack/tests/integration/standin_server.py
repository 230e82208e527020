"""A server of the stand-in stack, which answers /readyz.

Usage: ``standin_server.py PORT [stubborn] [parent] [late] [brief=FILE]``

``stubborn`` ignores SIGTERM; ``parent`` has a child in a session of its own, which would live on; ``late``
does not listen at once; ``brief`` ends after its first answer, unless FILE is there, and makes it.
"""

import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Says yes to everything."""

    answered = False

    def do_GET(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.end_headers()
        Handler.answered = True


def serve(port: int, options: list[str]) -> None:
    """Serve for ever."""
    if "stubborn" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "parent" in options:
        subprocess.Popen([sys.executable, "-I", "-S", __file__, "linger"], start_new_session=True)
    if "late" in options:
        time.sleep(0.5)
    server = HTTPServer(("127.0.0.1", port), Handler)
    for option in options:
        mark = Path(option.partition("=")[2])
        if option.startswith("brief=") and not mark.exists():
            mark.touch()
            while not Handler.answered:
                server.handle_request()
            return
    server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "linger":
        while True:
            time.sleep(60)
    serve(int(sys.argv[1]), sys.argv[2:])
