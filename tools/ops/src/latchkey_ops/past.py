"""``ops who-had-access`` and ``why``: what permission-projector answers, as a person reads it."""

from collections.abc import Mapping
from typing import Any

from latchkey_ops import show


def show_access(answer: Mapping[str, Any]) -> None:
    """Who had access, and by which event."""
    device = answer["device_id"]
    rows = [
        {
            "role": item["role"],
            "account": item["account"]["account_id"],
            "name": item["account"]["name"],
            "address": item["email"] or item["phone"],
            "by": _event(device, item["by"]),
            "of": None if item["by"] is None else item["by"]["at"],
            "permissions": _permissions(item["permissions"]),
            "terms": _terms(item["terms"]),
        }
        for item in answer["items"]
    ]
    show.table(rows, empty=f"Nobody: {device} was not known at that time.")


def show_why(device: str, answer: Mapping[str, Any]) -> None:
    """Whether it was allowed, and each event that led there."""
    colour, verdict = ("green", "Allowed") if answer["allowed"] else ("red", "Not allowed")
    by = _event(device, answer["by"])
    decided = f", by {by}" if by else ""
    show.console.print(f"[{colour}]{verdict}[/{colour}] at {answer['at']}: {answer['reason']}{decided}")
    rows = [
        {
            "share": step["share_id"],
            "event": _event(device, step["event"]),
            "of": step["event"]["at"],
            "state": step["state"],
            "terms": _terms(step["terms"]),
            "reason": step["reason"],
            "verdict": step["verdict"],
        }
        for step in answer["steps"]
    ]
    if rows:
        show.table(rows, empty="")


def _event(device: str, event: Mapping[str, Any] | None) -> str | None:
    """The event with its position, as every header and log line names it."""
    return None if event is None else f"{event['kind']} {device}@{event['version']}"


def _permissions(chosen: str | list[str] | None) -> str | None:
    return ", ".join(chosen) if isinstance(chosen, list) else chosen


def _terms(terms: Mapping[str, Any] | None) -> str | None:
    if terms is None:
        return None
    scope = terms["scope"]
    parts = (
        [f"all services: {_permissions(scope['permissions'])}"]
        if scope["kind"] == "all"
        else [f"{service}: {_permissions(chosen)}" for service, chosen in scope["services"].items()]
    )
    for name, text in (("starts_at", "from"), ("ends_at", "until")):
        if terms.get(name):
            parts.append(f"{text} {terms[name]}")
    return "; ".join([*parts, *(["scripting"] if terms["scripting"] else [])])
