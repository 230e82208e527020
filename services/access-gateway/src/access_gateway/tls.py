"""The gateway's certificate, and the TLS that it speaks with it (RFC 8446; RFC 5246 for older clients)."""

import asyncio
import ssl
from pathlib import Path

from servicekit.logging import get_logger

log = get_logger(__name__)

_LOOK_SECONDS = 10.0

_Stamp = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """The certificate or its key cannot be used."""


class Certificate:
    """A certificate in two files that somebody renews from time to time.

    `context` is made of what the files last held together: a renewal that is half done, or spoilt, leaves the
    certificate before it in force.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Read the files.

        Raises:
            CertificateError: they cannot be read, or do not belong together.
        """
        self._files = (cert_file, key_file)
        try:
            self._stamp = self._look()
            self._context = self._made()
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(
                f"{cert_file} and {key_file} cannot be used: {error.strerror or error}"
            ) from None

    @property
    def context(self) -> ssl.SSLContext:
        """For the next client."""
        return self._context

    def renew(self) -> None:
        """Read the files again if they have changed."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._context = self._made()
                self._stamp = stamp
                log.info("certificate_renewed")
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_not_renewed", error=type(error).__name__)

    async def watch(self) -> None:
        """Look for renewed files, every ten seconds, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.renew)

    def _look(self) -> _Stamp:
        # The inode too: a file that is put in the place of another may have its time.
        found = [path.stat() for path in self._files]
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)

    def _made(self) -> ssl.SSLContext:
        # Always a new context: one into which a key is loaded that does not fit is left half changed.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])  # a client that offers HTTP/2 too takes what we speak
        context.load_cert_chain(*self._files, password=_no_password)
        return context


def _no_password() -> str:
    """Instead of OpenSSL's own question on the terminal: an encrypted key is refused."""
    return ""
