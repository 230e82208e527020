"""Signed requests: what two kinds of clients send is accepted, and nothing else."""

import base64
import datetime
import hashlib
import hmac
from email.utils import formatdate
from typing import Any

import pytest
import requests
from http_message_signatures._algorithms import HMAC_SHA256
from hypothesis import assume, example, given
from hypothesis import strategies as st
from requests_http_signature import HTTPSignatureAuth

from portal.signatures import MAX_SKEW_SECONDS, RequestHead, SignatureRefusedError, read_claim

KEY_ID, SECRET = "Z5QCS6ZO7PXXAMVDNXXX", bytes(range(1, 34))
NOW = 1_770_091_506.0
HOSTS = ("portal.example.test", "127.0.0.1:8480", "api.remote.it")
TARGET = b"/graphql/v1"
BODY = b'{"query":"{ login { id } }"}'
TOLD_ALIKE = "unknown or disabled"

Headers = list[tuple[bytes, bytes]]


def judge(
    headers: Headers,
    body: bytes = BODY,
    *,
    method: str = "POST",
    target: bytes = TARGET,
    now: float = NOW,
    secret: bytes = SECRET,
) -> str | None:
    """The key whose signature counts; None when there is no signature."""
    claim = read_claim(RequestHead(method, target, headers), now=now, hosts=HOSTS)
    if claim is None:
        return None
    claim.verify(secret if claim.key_id == KEY_ID else None)
    claim.check_body(body)
    return claim.key_id


def refused(headers: Headers, saying: str, **changes: Any) -> None:
    """Whoever sends this is told so."""
    with pytest.raises(SignatureRefusedError) as refusal:
        judge(headers, **changes)
    assert saying in refusal.value.message
    assert base64.b64encode(SECRET).decode() not in refusal.value.message


# Scheme (a): draft-cavage.


def signed(
    names: str = "(request-target) host date content-type",
    *,
    host: str = HOSTS[0],
    sent_host: str | None = None,
    date: str | None = None,
    method: str = "post",
    secret: bytes = SECRET,
    key_id: str = KEY_ID,
    algorithm: str = ',algorithm="hmac-sha256"',
    **more: str,
) -> Headers:
    """Headers of a request as a shell script signs it."""
    values = {
        "(request-target)": f"{method} /graphql/v1",
        "host": host,
        "date": date if date is not None else formatdate(NOW, usegmt=True),
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "digest": "SHA-256=" + base64.b64encode(hashlib.sha256(BODY).digest()).decode(),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    base = "\n".join(f"{name}: {values.get(name, '')}" for name in names.split(" "))
    signature = base64.b64encode(hmac.digest(secret, base.encode(), "sha256")).decode()
    authorization = f'Signature keyId="{key_id}"{algorithm},headers="{names}",signature="{signature}"'
    values["host"] = sent_host or host
    headers = [(name.encode(), value.encode()) for name, value in values.items() if "(" not in name]
    return [*headers, (b"authorization", authorization.encode())]


def changed(headers: Headers, name: str, value: bytes | None) -> Headers:
    """Another value for a header; None leaves it out."""
    rest = [(key, old) for key, old in headers if key != name.encode()]
    return rest if value is None else [*rest, (name.encode(), value)]


@pytest.mark.parametrize(
    "headers",
    [
        signed(),
        signed("(request-target) host date content-type content-length"),
        signed("(request-target) host date content-type content-length digest"),
        signed("date (request-target)"),
        signed(host="api.remote.it", sent_host="127.0.0.1:8480"),
        signed(host="127.0.0.1:8480"),
        signed(host="Portal.Example.Test"),
        signed(date=formatdate(NOW).replace("-0000", "UTC")),
        signed(date=formatdate(NOW - MAX_SKEW_SECONDS + 1, usegmt=True)),
        signed(date=formatdate(NOW + MAX_SKEW_SECONDS - 1, usegmt=True)),
        signed(algorithm=""),
        signed(developerkey="ignored"),
        changed(signed(), "authorization", signed()[-1][1].replace(b",", b" , ")),
        changed(signed(), "authorization", signed()[-1][1].replace(b"Signature", b"signature")),
    ],
)
def test_what_scripts_sign_is_accepted(headers: Headers) -> None:
    assert judge(headers) == KEY_ID
    assert judge(headers) == KEY_ID, "the same signature again"


@pytest.mark.parametrize(
    ("headers", "saying"),
    [
        (signed("(request-target) host content-type"), "Sign the time"),
        (signed("host date content-type"), "Sign the request target"),
        (changed(signed(), "date", None), '"date" is not in the request'),
        (signed(date=formatdate(NOW - MAX_SKEW_SECONDS - 60, usegmt=True)), "360 seconds ago"),
        (signed(date=formatdate(NOW + MAX_SKEW_SECONDS + 60, usegmt=True)), "360 seconds ahead"),
        (signed(date="yesterday"), "The Date header cannot be read"),
        (signed(date=""), "The Date header cannot be read"),
        (signed(date="Tue, 03 Feb 99999999999999 04:05:06 GMT"), "The Date header cannot be read"),
        (signed(algorithm=',algorithm="rsa-sha256"'), "hmac-sha256"),
        (signed(algorithm=',algorithm="hs2019"'), "hmac-sha256"),
        (signed("(request-target)  host date"), "one space between"),
        (signed(" (request-target) date"), "one space between"),
        (signed("(request-target) Date date"), "small letters"),
        (signed("(request-target) date date"), "more than once"),
        (signed("(request-target) date (created)"), "names of headers"),
        (signed(" ".join(["(request-target) date", *(f"x{n}" for n in range(40))])), "At most 30"),
        ([*signed(), (b"date", b"x")], '"date" stands in the request more than once'),
        ([*signed(), (b"host", b"x")], '"host" stands in the request more than once'),
        ([*signed(), (b"authorization", b"Bearer x")], "more than one Authorization"),
        ([*signed(), signed()[-1]], "more than one Authorization"),
        ([*signed(), (b"signature-input", b"x")], "not both"),
        (changed(signed(), "authorization", b"Signature"), "must be: Signature keyId="),
        (changed(signed(), "authorization", b"Signature "), "must be: Signature keyId="),
        (changed(signed(), "authorization", b'Signature keyId="a",'), "must be: Signature keyId="),
        (changed(signed(), "authorization", b'Signature keyId="a",keyId="a"'), "must be: Signature keyId="),
        (changed(signed(), "authorization", b'Signature keyId="a"'), "lacks signature"),
        (changed(signed(), "authorization", b'Signature signature="YQ=="'), "lacks keyId"),
        (
            changed(signed(), "authorization", signed()[-1][1].replace(b'signature="', b'signature="?')),
            "base64",
        ),
        (changed(signed(), "authorization", signed()[-1][1] + b"\xff"), "beyond ASCII"),
        (changed(signed(), "authorization", b"Signature " + b"x" * 9000), "too long"),
        (signed(key_id="UNKNOWN"), TOLD_ALIKE),
        (signed(secret=b"another"), TOLD_ALIKE),
        (signed(host="other.example.test"), TOLD_ALIKE),
        (signed(host="portal.example.test.evil"), TOLD_ALIKE),
        (changed(signed(), "content-type", b"text/plain"), TOLD_ALIKE),
        (signed(method="get"), TOLD_ALIKE),
    ],
)
def test_what_does_not_count_is_refused_and_told_why(headers: Headers, saying: str) -> None:
    refused(headers, saying)


def test_another_target_or_method_is_refused() -> None:
    refused(signed(), TOLD_ALIKE, target=b"/graphql/v1?x=1")
    refused(signed(), TOLD_ALIKE, method="PUT")


def test_a_digest_that_is_signed_must_be_the_bodys() -> None:
    names = "(request-target) date digest"
    refused(signed(names), '"digest" is not the sha-256', body=BODY + b" ")
    refused(signed(names, digest="MD5=aGk="), "must hold a sha-256")
    refused(signed(names, digest="SHA-256"), '"digest" is not the sha-256')
    refused(signed(names, digest="SHA-256=a,sha-256=b"), "more than once")
    right = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert judge(signed(names, digest=f"md5=aGk=, sha-256={right}")) == KEY_ID
    refused(signed(names, digest=f"sha-256={right}, sha-512=aGk="), '"digest" is not the sha-512')


def test_a_bearer_token_is_no_signature() -> None:
    assert judge([(b"authorization", b"Bearer abc")]) is None
    assert judge([]) is None


# Scheme (b): RFC 9421, as requests-http-signature sends it.


class At(HTTPSignatureAuth):
    """The client at a chosen time."""

    time = NOW

    def get_created(self, request: Any) -> datetime.datetime:
        created = datetime.datetime.fromtimestamp(self.time, datetime.UTC)
        request.headers.setdefault("Date", formatdate(self.time, usegmt=True))
        return created


def sent(
    url: str = "https://portal.example.test/graphql/v1",
    *,
    time: float = NOW,
    body: bytes | None = BODY,
    secret: bytes = SECRET,
    key_id: str = KEY_ID,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Headers:
    """Headers as the client puts them on a request."""
    auth = At(key_id=key_id, key=secret, signature_algorithm=HMAC_SHA256, **options)
    auth.time = time
    request = requests.Request("POST", url, data=body, headers=headers, auth=auth).prepare()
    return [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]


def with_input(headers: Headers, old: str, new: str) -> Headers:
    """Another text in Signature-Input; what is wrong with it is said before the signature is looked at."""
    value = dict(headers)[b"signature-input"].decode().replace(old, new)
    return changed(headers, "signature-input", value.encode())


@pytest.mark.parametrize(
    "headers",
    [
        sent(),
        sent("http://127.0.0.1:8480/graphql/v1"),
        sent("https://api.remote.it/graphql/v1"),
        sent(label="sig1"),
        sent(include_alg=False),
        sent(use_nonce=True),
        sent(time=NOW - MAX_SKEW_SECONDS + 1),
        sent(covered_component_ids=("@method", "@path", "@query", "@scheme", "@authority")),
        sent(covered_component_ids=("@method", "@path", "content-type"), headers={"content-type": "a/b"}),
        sent(headers={"DeveloperKey": "ignored"}),
    ],
)
def test_what_the_published_client_sends_is_accepted(headers: Headers) -> None:
    assert judge(headers) == KEY_ID
    assert judge(headers) == KEY_ID, "three equal requests within a second are signed alike"


@pytest.mark.parametrize(
    ("headers", "saying"),
    [
        (sent(time=NOW - MAX_SKEW_SECONDS - 60), "created in Signature-Input is 360 seconds ago"),
        (sent(time=NOW + MAX_SKEW_SECONDS + 60), "created in Signature-Input is 360 seconds ahead"),
        (sent(headers={"Date": formatdate(NOW - 400, usegmt=True)}), "The Date header is 400 seconds ago"),
        (sent(covered_component_ids=("@method", "@authority")), "Sign the method and the target"),
        (sent(covered_component_ids=("@authority", "@target-uri")), "Sign the method and the target"),
        (sent("https://other.example.test/graphql/v1"), TOLD_ALIKE),
        (sent("https://portal.example.test/graphql/v2"), TOLD_ALIKE),
        (sent(key_id="UNKNOWN"), TOLD_ALIKE),
        (sent(secret=b"another"), TOLD_ALIKE),
        (with_input(sent(), "hmac-sha256", "ed25519"), 'alg="hmac-sha256"'),
        (with_input(sent(), '"hmac-sha256"', "hmac-sha256"), 'alg="hmac-sha256"'),
        (with_input(sent(), f'"{KEY_ID}"', "token"), "lacks keyid"),
        (with_input(sent(), "keyid=", "other="), "lacks keyid"),
        (with_input(with_input(sent(), ' "date"', ""), "created=", "other="), "Sign the time"),
        (with_input(sent(), f"created={NOW:.0f}", "created=1.5"), "whole number"),
        (with_input(sent(), f"created={NOW:.0f}", "created"), "whole number"),
        (with_input(sent(), "created=", "expires=1;created="), "has expired"),
        (with_input(sent(), '"date"', '"date" "date"'), "more than once"),
        (with_input(sent(), '"date"', '"Date"'), "small letters"),
        (with_input(sent(), '"date"', '"date";sf'), "without parameters"),
        (with_input(sent(), '"date"', "date"), "without parameters"),
        (with_input(sent(), '"date"', '"@status"'), "names of headers"),
        (with_input(sent(), '"date"', '"x-none"'), '"x-none" is not in the request'),
        (with_input(sent(), "pyhms=", "other="), "same label"),
        (with_input(sent(), "pyhms=", "a=(),pyhms="), "one signature"),
        (changed(sent(), "signature-input", b"pyhms=1"), "in parentheses"),
        (changed(sent(), "signature-input", b"\xff"), "beyond ASCII"),
        (changed(sent(), "signature-input", b"("), "not as RFC 9421 says"),
        (changed(sent(), "signature-input", b"a" * 9000), "too long"),
        (changed(sent(), "signature-input", None), '"signature-input" is not in the request'),
        (changed(sent(), "signature", None), '"signature" is not in the request'),
        (changed(sent(), "signature", b'pyhms="text"'), "bytes in base64"),
        (changed(sent(), "signature", dict(sent())[b"signature"] * 2), "not as RFC 9421 says"),
        ([*sent(), (b"signature", dict(sent())[b"signature"])], "more than once"),
        ([*sent(), (b"signature-input", dict(sent())[b"signature-input"])], "more than once"),
        ([*sent(), (b"date", b"x")], '"date" stands in the request more than once'),
        ([*sent(), (b"authorization", b"Bearer x")], "not both"),
        (sent(body=None), "The body is not signed"),
        (with_input(sent(), "hmac-sha256", "hmac-sha25\\\\6"), 'alg="hmac-sha256"'),
    ],
)
def test_what_does_not_count_under_rfc_9421_is_refused(headers: Headers, saying: str) -> None:
    refused(headers, saying)


def test_the_body_is_the_one_that_was_signed() -> None:
    refused(sent(), '"content-digest" is not the sha-256', body=BODY + b" ")
    refused(sent(), '"content-digest" is not the sha-256', body=b"")
    refused(sent(headers={"Content-Digest": "md5=:aGk=:"}), "must hold a sha-256")
    refused(sent(headers={"Content-Digest": "sha-256=aGk"}), "must hold a sha-256")
    assert judge(sent(body=None), body=b"") == KEY_ID


SIGNED = {"cavage": signed("(request-target) host date content-type digest"), "rfc": sent()}
COVERED = {
    "cavage": ("host", "date", "content-type", "digest", "authorization"),
    "rfc": ("content-digest", "date", "signature-input", "signature"),
}


@given(scheme=st.sampled_from(sorted(SIGNED)), place=st.data(), byte=st.integers(0, 255))
def test_no_byte_that_is_signed_can_be_another(scheme: str, place: st.DataObject, byte: int) -> None:
    headers = SIGNED[scheme]
    name = place.draw(st.sampled_from([*COVERED[scheme], "the target", "the body"]))
    values = {**dict(headers), b"the target": TARGET, b"the body": BODY}
    value = values[name.encode()]
    at = place.draw(st.integers(0, len(value) - 1))
    assume(value[at] != byte)
    other = value[:at] + bytes([byte]) + value[at + 1 :]
    assume(not same_meaning(name, value, other))
    target = other if name == "the target" else TARGET
    body = other if name == "the body" else BODY
    flipped = headers if name.startswith("the ") else changed(headers, name, other)
    try:
        assert judge(flipped, body, target=target) is None, f"{name}: {other!r}"
        assert name == "authorization", "only another scheme is no signature"
    except SignatureRefusedError:
        pass


def same_meaning(name: str, value: bytes, other: bytes) -> bool:
    """Another spelling of the same: of the scheme's name, of white space, of a host that is signed
    as one that is allowed, of a last character of base64 whose spare bits say nothing, of a parameter that is
    not signed and has its default when it is not there.
    """
    if name == "host" or value.strip() == other.strip():
        return True  # the host that was signed is found by trying those that are allowed
    if name == "authorization":
        if value.lower() == other.lower() and value[9:] == other[9:]:
            return True
        if value.replace(b"\t", b" ") == other.replace(b"\t", b" "):
            return True
        changed_at = next(n for n, (a, b) in enumerate(zip(value, other, strict=True)) if a != b)
        start = value.index(b"algorithm=")
        if start <= changed_at < start + len(b"algorithm"):
            return True
    if name in {"authorization", "signature"}:
        return decoded(value) == decoded(other)
    return False


def decoded(value: bytes) -> bytes | None:
    """What the base64 at the end of a header says."""
    text = value.rstrip(b'":').rpartition(b":" if value.endswith(b":") else b'"')[2]
    try:
        return value[: -len(text) - 1] + base64.b64decode(text, validate=True)
    except ValueError:
        return None


ANY_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"authorization",
                b"signature",
                b"signature-input",
                b"date",
                b"host",
                b"digest",
                b"content-digest",
            ]
        ),
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([value for headers in SIGNED.values() for _, value in headers]),
            st.text('()";=:@%?,abz019 -./*\\', max_size=60).map(lambda text: b"pyhms=" + text.encode()),
            st.text('"\\=, abZ09', max_size=60).map(lambda text: b"Signature " + text.encode()),
        ),
    ),
    max_size=9,
)


@given(ANY_HEADERS, st.binary(max_size=20), st.binary(max_size=20))
@example(
    [(b"signature", b"a=:aGk=:"), (b"signature-input", b'a=("@method" "@path");keyid="k";created=@1')],
    b"",
    b"",
)
@example(
    [
        (b"signature", b"a=:aGk=:"),
        (b"signature-input", b'a=("@method" "@path");keyid="k";created=1;x=%"%c3%bc"'),
    ],
    b"",
    b"",
)
def test_whatever_is_sent_the_answer_is_a_refusal(headers: Headers, target: bytes, body: bytes) -> None:
    try:
        assert judge(headers, body, target=target) is None
    except SignatureRefusedError as refusal:
        assert len(refusal.message) > 10


@given(st.text(max_size=80))
@example("Tue, 03 Feb 2026 04:05:06 +99999999999999999")
@example("Tue, 03 Feb 2026 04:05:06 " + "9" * 50)
@example("1 Jan 0001 00:00:00 +2359")
@example("31 Dec 9999 23:59:59 -2359")
@example("1 Feb 99999999999999999999999999 1:1:1")
def test_no_date_is_too_odd_to_be_refused(text: str) -> None:
    headers = changed(signed(), "date", text.encode())
    with pytest.raises(SignatureRefusedError):
        judge(headers)
