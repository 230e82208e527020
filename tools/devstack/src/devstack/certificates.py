"""A certificate authority of the stack's own, for this machine's names only, and a certificate by it."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devstack.demo_files import replace_file

_AUTHORITY_DAYS, _CERTIFICATE_DAYS = 3650, 90
_LOOPBACK = ipaddress.ip_address("127.0.0.1")

CONTAINERS = ("issuer", "mailpit")
"""Names that exist in the networks of docker-compose.yml only, of servers that are asked over TLS there."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where they are: who wants to trust the stack's servers trusts ``ca``."""

    ca: Path
    certificate: Path
    key: Path


def files(directory: Path, name: str = "gateway") -> Files:
    """The files of a directory, whether they have been made or not."""
    return Files(directory / "ca.pem", directory / f"{name}.pem", directory / f"{name}-key.pem")


def make(directory: Path, name: str = "gateway", host: str = "localhost") -> None:
    """A new certificate for ``host`` and 127.0.0.1, by the directory's authority; both made if needed.

    The authority can sign for this machine and `CONTAINERS` only (RFC 5280, section 4.2.1.10), so that to
    trust it, even in a browser, gives nobody who reads its key any other site.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    made, authority_key = files(directory, name), directory / "ca-key.pem"
    if not (made.ca.exists() and authority_key.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        replace_file(authority_key, _pem(key))
        replace_file(made.ca, _authority(key).public_bytes(Encoding.PEM))
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    ca_key = load_pem_private_key(authority_key.read_bytes(), password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    replace_file(made.key, _pem(key))
    replace_file(made.certificate, _certificate(host, key, ca, ca_key).public_bytes(Encoding.PEM))


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Latchkey embedded stack")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    here: list[x509.GeneralName] = [
        *map(x509.DNSName, ("localhost", *CONTAINERS)),
        x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
    ]
    return (
        _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.NameConstraints(permitted_subtrees=here, excluded_subtrees=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    host: str, key: ec.EllipticCurvePrivateKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(_LOOPBACK)])
    return (
        _builder(name, ca.subject, key.public_key(), _CERTIFICATE_DAYS)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
