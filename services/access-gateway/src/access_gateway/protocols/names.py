"""How a service is named where a host name is expected, in the target of HTTP CONNECT.

A service id may hold colons and capital letters, which host names do not keep. So a service has a host name
of its own, ``<label>.latchkey``, that every client passes on as it is; no DNS knows it. An id of two-digit
groups is written with dashes: ``80:00:00:00:01:00:00:02`` is ``80-00-00-00-01-00-00-02.latchkey``. In any
other id small letters, digits and dots stand for themselves, and everything else is ``_`` and two hexadecimal
digits: ``Cam-1`` is ``_43am_2d1.latchkey``. What lacks this suffix, or stands in brackets, is the id itself.
"""

import re

SUFFIX = ".latchkey"

_ID = re.compile(r"[A-Za-z0-9:._-]{1,64}")
_GROUPS = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2})+")
_DASHED_GROUPS = re.compile(r"[0-9a-f]{2}(-[0-9a-f]{2})+")
_LABEL = re.compile(r"([a-z0-9.]|_[0-9a-f]{2})+")
_PORT = re.compile(r":[0-9]{1,5}$")


def host_name(service: str) -> str:
    """The host name of the service with this id."""
    if _GROUPS.fullmatch(service):
        return service.replace(":", "-").lower() + SUFFIX
    return re.sub(r"[^a-z0-9.]", lambda found: f"_{ord(found[0]):02x}", service) + SUFFIX


def service_of(target: str) -> str:
    """The service id that the target of a CONNECT request names.

    That is a name and a port (RFC 9110, section 9.3.6), of which the port is not looked at: the service has
    its own.

    Raises:
        ValueError: it names no service; the message says what is missing.
    """
    port = _PORT.search(target)
    if port is None:
        raise ValueError("the target must end with a port, such as :22")
    name = target[: port.start()]
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif name.lower().endswith(SUFFIX):
        name = _decoded(name[: -len(SUFFIX)].lower())
    return service_id(name)


def service_id(text: str) -> str:
    """The text, if it has the form of an id; raises ValueError."""
    if not _ID.fullmatch(text):
        raise ValueError("a service must be named, by its id or its host name")
    return text


def _decoded(label: str) -> str:
    if _DASHED_GROUPS.fullmatch(label):
        return label.replace("-", ":").upper()
    if not _LABEL.fullmatch(label):
        raise ValueError(f"what stands before {SUFFIX} must be a service id, written as such names are")
    return re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), label)
