"""Structured logs: one line an event, constant event names, fields as keywords, nothing private.

Logs of libraries go through the same formatter. A last step blacks out what looks like an e-mail address,
a token or a stream URL, whoever logged it.
"""

import json
import logging
import re
import sys
from collections.abc import Collection, Mapping
from typing import cast

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict, WrappedLogger

_PRIVATE = re.compile(
    r"[\w.+-]+@[\w-]+\.[\w.-]+"  # e-mail address
    r"|eyJ[\w-]+\.[\w-]+\.[\w-]*"  # JSON Web Token
    r"|(?i:bearer|basic)\s+[\w.~+/=-]{8,}"  # Authorization header
    r"|(?i:rtsps?|postgres(?:ql)?)://\S+",  # stream address, database address
)


_IN_A_WORD = re.compile(r"[@\s]|eyJ|://")
"""Is in whatever the pattern finds. Most values have none of it, and to look for that is much cheaper."""


def _black_out(value: object) -> object:
    if isinstance(value, str):
        return _PRIVATE.sub("[hidden]", value) if _IN_A_WORD.search(value) else value
    if isinstance(value, dict):
        return {key: _black_out(item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_black_out(item) for item in cast("list[object]", value)]
    return value


def hide_private(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Structlog processor: replace addresses, tokens and stream URLs by ``[hidden]``."""
    return {key: _black_out(value) for key, value in event.items()}


def _json(event: EventDict, **_: object) -> str:
    try:
        return to_json(event, fallback=str).decode()
    except ValueError:  # half of a surrogate, which UTF-8 cannot have
        return json.dumps(event, default=str)


def configure(service: str, *, level: str = "info", style: str = "json") -> None:
    """Send this process's logs, the libraries' included, to standard output."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_private,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_json)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    # Ours go straight to the output: by way of the standard library a line takes three times as long.
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiokafka", "httpx", "httpcore", "faststream", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def mold(
    event: str, fields: Mapping[str, object], *, texts: Collection[str] = (), numbers: Collection[str] = ()
) -> str:
    """A line at level ``info`` that is written very often, as a format for ``%`` with a mapping.

    Its keys are ``timestamp`` and the fields that are named. They are filled in as they are: numbers, ids
    and times, nothing private and nothing that JSON would have to escape. Empty when this process does not
    log at that level. `write` takes what is made of it; the rest of the line is as that of any other.
    """
    holes = {name: f"<{name} here>" for name in ("timestamp", *texts, *numbers)}
    configured = structlog.get_config()
    if not structlog.get_logger().is_enabled_for(logging.INFO):
        return ""
    *processors, renderer = configured["processors"]
    line: EventDict = {"event": event, **fields, **holes}
    logger = get_logger(__name__)
    for processor in processors:
        line = cast("EventDict", processor(logger, "info", line))
    line["timestamp"] = holes["timestamp"]
    text = str(renderer(logger, "info", line)).replace("%", "%%")
    for name, hole in holes.items():
        text = text.replace(f'"{hole}"', f"%({name})s" if name in numbers else f'"%({name})s"')
        text = text.replace(hole, f"%({name})s")
    return text + "\n"


def write(lines: str) -> None:
    """Lines that were made of a `mold`, all at once."""
    sys.stdout.write(lines)
    sys.stdout.flush()


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module: ``log = get_logger(__name__)``."""
    return structlog.stdlib.get_logger(name)
