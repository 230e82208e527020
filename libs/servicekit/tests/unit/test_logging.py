"""Nothing private is in a log line, whoever logged it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from servicekit import logging as service_logging
from servicekit.telemetry import correlated


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    service_logging.configure("test")
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


PRIVATE = [
    "ann@example.com",
    "Ann.Keller+x@sub.example.co.uk",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
    "Bearer abcdefgh12345678",
    "rtsp://user:pass@10.0.0.1/live",
    "postgresql://portal:secret@127.0.0.1/latchkey",
]


@pytest.mark.parametrize("secret", PRIVATE)
def test_private_things_are_blacked_out_in_every_place(output: io.StringIO, secret: str) -> None:
    log = service_logging.get_logger("x")
    log.info("event", field=f"see {secret}!", nested={"list": [secret]})
    logging.getLogger("some.library").warning("library says %s", secret)
    try:
        raise ValueError(f"broke on {secret}")
    except ValueError:
        log.exception("failed")
    text = output.getvalue()
    assert text.count("[hidden]") >= 4
    assert secret.rsplit(maxsplit=1)[-1] not in text


def test_a_line_is_json_with_the_service_and_the_correlation_id(output: io.StringIO) -> None:
    with correlated("c-1"):
        service_logging.get_logger("x").info("share_accepted", share_id="s1")
    line = json.loads(output.getvalue())
    assert line["event"] == "share_accepted"
    assert (line["share_id"], line["correlation_id"], line["service"], line["level"]) == (
        "s1",
        "c-1",
        "test",
        "info",
    )


def test_what_json_does_not_know_is_written_as_text(output: io.StringIO) -> None:
    log = service_logging.get_logger("x")
    log.info("odd", half="\ud800", when=frozenset({1}), reason=ValueError("no"))
    log.info("odd", when=object(), reason=ValueError("no"))
    first, second = map(json.loads, output.getvalue().splitlines())
    assert (first["half"], first["reason"]) == ("\ud800", "no")
    assert second["when"].startswith("<object")


def test_what_is_below_the_level_is_not_written(output: io.StringIO) -> None:
    log = service_logging.get_logger("x")
    log.debug("detail")
    logging.getLogger("some.library").debug("detail")
    assert not output.getvalue()


@pytest.mark.usefixtures("output")
@pytest.mark.parametrize("style", ["json", "console"])
def test_a_filled_in_mold_is_a_line_like_any_other(capsys: pytest.CaptureFixture[str], style: str) -> None:
    service_logging.configure("test", style=style)
    fields = {"share": "100 %s", "seen_by": "ann@example.com", "reason": None}
    with correlated("c-1"):
        form = service_logging.mold("opened", fields, texts=("name",), numbers=("seconds",))
    service_logging.write(form % {"timestamp": "2026-03-01T12:00:00Z", "name": "n-1", "seconds": 0.5})
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    if style == "json":
        assert json.loads(text) == {
            "event": "opened",
            "share": "100 %s",
            "seen_by": "[hidden]",
            "reason": None,
            "name": "n-1",
            "seconds": 0.5,
            "level": "info",
            "timestamp": "2026-03-01T12:00:00Z",
            "service": "test",
            "correlation_id": "c-1",
        }
    else:
        wanted = ("opened", "100 %s", "[hidden]", "n-1", "0.5", "c-1", "12:00:00Z")
        assert [word for word in wanted if word not in text] == []


@pytest.mark.usefixtures("output")
def test_a_mold_below_the_level_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    service_logging.configure("test", level="warning")
    service_logging.write(service_logging.mold("opened", {}) % {"timestamp": "2026-03-01T12:00:00Z"})
    assert not capsys.readouterr().out
