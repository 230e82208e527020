"""Pure: requests signed with an access key, in the two schemes that clients of remote.it use.

| scheme | told by | signed, one ``name: value`` a line |
|---|---|---|
| draft-cavage-http-signatures-12 | ``Authorization: Signature …`` | the headers named there |
| RFC 9421 | ``Signature-Input``, ``Signature`` | the components named there, and the parameters |

The algorithm is HMAC-SHA256 in both: the key decides, not the sender (RFC 9421, 7.3.6). Equal signatures are
accepted again: clients sign equal requests within a second alike.

A request is judged in steps, so that a stranger cannot make the service do more than needed: `read_claim`
from the head alone, then `Claim.verify` with the secret of the key named there, then `Claim.check_body`.
"""

import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import product
from typing import Final

from http_sfv.dictionary import Dictionary
from http_sfv.item import InnerList, Item
from http_sfv.types import Token

MAX_SKEW_SECONDS: Final = 300
"""How far the time that a request was signed at may be from now, either way."""

_ALGORITHM: Final = "hmac-sha256"
_MAX_HEADER: Final = 8192  # bytes of a header that is parsed
_MAX_COMPONENTS: Final = 30
_SPACE: Final = b" \t"
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_PARAMETER: Final = re.compile(r'[ \t]*([A-Za-z]+)=(?:"([^"\\\x00-\x1f\x7f]*)"|([0-9]+))[ \t]*(,|\Z)')
_HASHES: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
_NOBODYS_SECRET: Final = secrets.token_bytes(32)

_REQUEST_TARGET: Final = "(request-target)"
_DERIVED: Final = frozenset(
    {"@method", "@authority", "@target-uri", "@scheme", "@path", "@query", "@request-target"}
)
_TARGETS: Final = frozenset({"@target-uri", "@path", "@request-target"})


class SignatureRefusedError(ValueError):
    """A signature that does not count. ``message`` says what to do and holds nothing secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request says before its body. ``target`` is the raw path and query; header names are small."""

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]

    def values(self, name: str) -> list[bytes]:
        """The values of a header, one for each time that it stands there, without white space around."""
        wanted = name.encode()
        return [value.strip(_SPACE) for key, value in self.headers if key == wanted]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its signature: ``bases`` are the texts of which one must have been signed.

    There are several because hosts and schemes are not known for certain behind a proxy. ``digests`` are the
    digest headers that are signed, by name; ``covers_body`` False when a body would be unsigned and may not.
    """

    key_id: str
    signature: bytes
    bases: tuple[bytes, ...]
    digests: Mapping[str, bytes]
    covers_body: bool

    def verify(self, secret: bytes | None) -> None:
        """Check the signature. ``secret`` None: there is no such key, which takes as long to find out.

        Raises:
            SignatureRefusedError: unknown key and wrong secret are answered alike.
        """
        key = _NOBODYS_SECRET if secret is None else secret
        matches = [
            hmac.compare_digest(hmac.digest(key, base, "sha256"), self.signature) for base in self.bases
        ]
        if secret is None or not any(matches):
            raise SignatureRefusedError(
                "The access key is unknown or disabled, or the signature was not made with its secret over "
                "this request. Check that the key is enabled, that the secret was base64-decoded, and that "
                "the lines signed are those named, with the values sent and a host name of this service."
            )

    def check_body(self, body: bytes) -> None:
        """Check that the body is the one that was signed.

        Raises:
            SignatureRefusedError: it is not, or the scheme wants it signed and it is not.
        """
        if body and not self.covers_body:
            raise SignatureRefusedError(
                'The body is not signed. Send "content-digest" and sign it (RFC 9530).'
            )
        for name, value in self.digests.items():
            _check_digest(name, value, body)


def read_claim(head: RequestHead, *, now: float, hosts: Sequence[str]) -> Claim | None:
    """What the request says of its signature; None when it is not signed.

    ``now`` is in seconds since 1970; ``hosts`` are the names (in small letters, with their ports) that may be
    signed as the request's host.

    Raises:
        SignatureRefusedError: the signature cannot be read, is too old or too early, or covers too little.
    """
    authorizations = head.values("authorization")
    in_authorization = [value for value in authorizations if _is_signature(value)]
    if head.values("signature-input") or head.values("signature"):
        if authorizations:
            raise SignatureRefusedError(
                "Authenticate in one way: a Signature-Input header or an Authorization header, not both."
            )
        return _rfc_9421(head, now, hosts)
    if not in_authorization:
        return None
    if len(authorizations) > 1:
        raise SignatureRefusedError("There is more than one Authorization header. Send one.")
    return _cavage(head, in_authorization[0], now, hosts)


def _is_signature(authorization: bytes) -> bool:
    return authorization.split(b" ", 1)[0].split(b"\t", 1)[0].lower() == b"signature"


def _cavage(head: RequestHead, authorization: bytes, now: float, hosts: Sequence[str]) -> Claim:
    """draft-cavage-http-signatures-12, section 2."""
    parameters = _parameters(_text(authorization, "Authorization")[len("Signature") :])
    if parameters.get("algorithm", _ALGORITHM) != _ALGORITHM:
        raise SignatureRefusedError(f'Sign with algorithm="{_ALGORITHM}".')
    try:
        key_id, signature = parameters["keyId"], parameters["signature"]
    except KeyError as missing:
        raise SignatureRefusedError(f"The Authorization header lacks {missing.args[0]}.") from None
    names = parameters.get("headers", "date").split(" ")
    _check_names(names, known=frozenset({_REQUEST_TARGET}))
    if _REQUEST_TARGET not in names:
        raise SignatureRefusedError(f'Sign the request target: name "{_REQUEST_TARGET}" in headers.')
    if "date" not in names:
        raise SignatureRefusedError('Sign the time: send a Date header and name "date" in headers.')
    values = {name: _one(head, name) for name in names if name != _REQUEST_TARGET}
    _check_date(values["date"], now)
    values[_REQUEST_TARGET] = head.method.lower().encode() + b" " + head.target
    return Claim(
        key_id=key_id,
        signature=_base64(signature),
        bases=tuple(
            b"\n".join(name.encode() + b": " + (host if name == "host" else values[name]) for name in names)
            for host in (_hosts(values["host"], hosts) if "host" in values else [b""])
        ),
        digests=_digests(values),
        covers_body=True,  # the scheme leaves that to the client
    )


def _rfc_9421(head: RequestHead, now: float, hosts: Sequence[str]) -> Claim:
    """RFC 9421, sections 2 to 4, as far as clients that share a secret use it."""
    inputs = _dictionary("Signature-Input", _one(head, "signature-input"))
    signatures = _dictionary("Signature", _one(head, "signature"))
    if len(inputs) != 1 or inputs.keys() != signatures.keys():
        raise SignatureRefusedError(
            "Signature-Input and Signature must hold one signature, under the same label."
        )
    ((_, covered),) = inputs.items()
    ((_, signature),) = signatures.items()
    if not isinstance(covered, InnerList):
        raise SignatureRefusedError("Signature-Input must list what is signed, in parentheses.")
    if not isinstance(signature, Item) or not isinstance(signature.value, bytes):
        raise SignatureRefusedError("Signature must hold bytes in base64, between colons.")
    items: list[object] = list(covered)  # pyright: ignore[reportUnknownArgumentType] - its list has no type
    names = [_component(item) for item in items]
    _check_names(names, known=_DERIVED)
    if "@method" not in names or not _TARGETS.intersection(names):
        raise SignatureRefusedError('Sign the method and the target: cover "@method" and "@target-uri".')
    parameters: Mapping[str, object] = dict(covered.params)
    key_id = _string(parameters.get("keyid"))
    if key_id is None:
        raise SignatureRefusedError("Signature-Input lacks keyid, the id of the access key in quotes.")
    if _string(parameters.get("alg", _ALGORITHM)) != _ALGORITHM:
        raise SignatureRefusedError(f'Sign with alg="{_ALGORITHM}".')
    values = {name: _one(head, name) for name in names if name not in _DERIVED}
    _check_times(parameters, values.get("date"), now)
    try:
        last = f'"@signature-params": {covered}'.encode("ascii")
    except ValueError:  # a number that can be read and not be written
        raise SignatureRefusedError("The parameters in Signature-Input cannot be read.") from None
    bases: dict[bytes, None] = {}
    for host, scheme in product(hosts, ("https", "http")):
        derived = _derived(head, host.encode(), scheme.encode())
        lines = [b'"%b": %b' % (name.encode(), values.get(name, derived.get(name, b""))) for name in names]
        bases[b"\n".join([*lines, last])] = None
    return Claim(
        key_id=key_id,
        signature=signature.value,
        bases=tuple(bases),
        digests=_digests(values),
        covers_body="content-digest" in names,
    )


def _derived(head: RequestHead, host: bytes, scheme: bytes) -> Mapping[str, bytes]:
    """RFC 9421, section 2.2."""
    path, _, query = head.target.partition(b"?")
    return {
        "@method": head.method.encode(),
        "@authority": host,
        "@scheme": scheme,
        "@target-uri": scheme + b"://" + host + head.target,
        "@request-target": head.target,
        "@path": path,
        "@query": b"?" + query,
    }


def _component(item: object) -> str:
    name = _string(item.value) if isinstance(item, Item) and not item.params else None
    if name is None:
        raise SignatureRefusedError(
            "Signature-Input must name each component in quotes and without parameters."
        )
    return name


def _string(value: object) -> str | None:
    """A string of structured fields; its tokens, which have no quotes, are none."""
    return value if isinstance(value, str) and not isinstance(value, Token) else None


def _check_names(names: Sequence[str], *, known: frozenset[str]) -> None:
    """What is signed: small letters, each once; beside headers only what is ``known``."""
    if len(names) > _MAX_COMPONENTS:
        raise SignatureRefusedError(f"At most {_MAX_COMPONENTS} headers can be signed.")
    if len(set(names)) != len(names):
        raise SignatureRefusedError("A header is named more than once in what is signed. Name it once.")
    for name in names:
        if name not in known and not _HEADER_NAME.fullmatch(name):
            raise SignatureRefusedError(
                "What is signed must be names of headers in small letters, with one space between them, or "
                f"one of {', '.join(sorted(known))}."
            )


def _one(head: RequestHead, name: str) -> bytes:
    values = head.values(name)
    if len(values) != 1:
        fault = "is not in the request" if not values else "stands in the request more than once"
        raise SignatureRefusedError(f'"{name}" {fault}. Send it once, or do not sign it.')
    return values[0]


def _hosts(sent: bytes, hosts: Sequence[str]) -> list[bytes]:
    """The values that may have been signed as host: any that is allowed, also as it was written."""
    allowed = [host.encode() for host in hosts]
    return list(dict.fromkeys([*allowed, *([sent] if sent.lower() in allowed else [])]))


def _parameters(text: str) -> Mapping[str, str]:
    """``name="value"`` pairs with commas between them (RFC 9110, 11.2)."""
    found: dict[str, str] = {}
    position, more = 0, True
    while more:
        match = _PARAMETER.match(text, position)
        if match is None or match[1] in found:
            raise SignatureRefusedError(
                'The Authorization header must be: Signature keyId="…",algorithm="hmac-sha256",'
                'headers="(request-target) host date content-type",signature="…"'
            )
        found[match[1]] = match[2] if match[2] is not None else match[3]
        position, more = match.end(), match[4] == ","
    return found


def _dictionary(name: str, value: bytes) -> Mapping[str, object]:
    """A header that is a dictionary of structured fields (RFC 9651)."""
    _text(value, name)
    fields = Dictionary()
    try:
        fields.parse(value)
    except ValueError:
        raise SignatureRefusedError(f"The {name} header is not as RFC 9421 says.") from None
    return dict(fields)


def _text(value: bytes, name: str) -> str:
    if len(value) > _MAX_HEADER or not value.isascii():
        raise SignatureRefusedError(f"The {name} header is too long or holds characters beyond ASCII.")
    return value.decode("ascii")


def _base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        raise SignatureRefusedError("The signature is not base64.") from None


def _check_date(value: bytes, now: float) -> None:
    """An HTTP date (RFC 9110, 5.6.7); other spellings of e-mail's dates pass: shells write UTC for GMT."""
    try:
        date = parsedate_to_datetime(_text(value[:100], "Date"))
        signed = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        raise SignatureRefusedError(
            "The Date header cannot be read. Write it as Tue, 03 Feb 2026 04:05:06 GMT."
        ) from None
    _check_skew("The Date header", signed, now)


def _check_times(parameters: Mapping[str, object], date: bytes | None, now: float) -> None:
    """The times of an RFC 9421 signature: ``created`` or a signed Date, and ``expires`` if it is there."""
    if "created" not in parameters and date is None:
        raise SignatureRefusedError("Sign the time: give created, or send a Date header and cover it.")
    if "created" in parameters:
        _check_skew("created in Signature-Input", _seconds(parameters["created"], "created"), now)
    if date is not None:
        _check_date(date, now)
    if "expires" in parameters and _seconds(parameters["expires"], "expires") < now:
        raise SignatureRefusedError(
            "The signature has expired, as its own parameter expires says. Sign anew."
        )


def _seconds(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SignatureRefusedError(
            f"{name} in Signature-Input must be a whole number of seconds since 1970."
        )
    return value


def _check_skew(what: str, signed: float, now: float) -> None:
    if abs(signed - now) > MAX_SKEW_SECONDS:
        raise SignatureRefusedError(
            f"{what} is {abs(round(now - signed))} seconds {'ago' if signed < now else 'ahead'}; at most "
            f"{MAX_SKEW_SECONDS} (5 minutes) are accepted. Set the clock of the computer that signs; use UTC."
        )


def _digests(values: Mapping[str, bytes]) -> Mapping[str, bytes]:
    return {name: values[name] for name in ("digest", "content-digest") if name in values}


def _check_digest(name: str, value: bytes, body: bytes) -> None:
    """Digest (RFC 3230) or Content-Digest (RFC 9530): every hash that is known here must be the body's."""
    told = _content_digests(value) if name == "content-digest" else _plain_digests(value)
    known = {algorithm: digest for algorithm, digest in told.items() if algorithm in _HASHES}
    if not known:
        raise SignatureRefusedError(f'"{name}" must hold a sha-256 or sha-512 of the body.')
    for algorithm, digest in known.items():
        if not hmac.compare_digest(_HASHES[algorithm](body).digest(), digest):
            raise SignatureRefusedError(f'"{name}" is not the {algorithm} of the body that was sent.')


def _content_digests(value: bytes) -> Mapping[str, bytes]:
    return {
        algorithm: item.value
        for algorithm, item in _dictionary("Content-Digest", value).items()
        if isinstance(item, Item) and isinstance(item.value, bytes)
    }


def _plain_digests(value: bytes) -> Mapping[str, bytes]:
    pairs = [pair.strip().partition("=") for pair in _text(value, "Digest").split(",")]
    if len({algorithm.lower() for algorithm, _, _ in pairs}) != len(pairs):
        raise SignatureRefusedError("The Digest header names an algorithm more than once.")
    return {algorithm.lower(): _digest(digest) for algorithm, _, digest in pairs}


def _digest(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        return b""  # not the body's, whatever it is
