"""Answers on a terminal of the usual width."""

import pytest
from rich.console import Console

from contracts.topics import TOPICS
from latchkey_ops import show
from latchkey_ops.lag import READS

WIDTH = 80


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "console", Console(width=WIDTH))


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr().out
    assert all(len(line) <= WIDTH for line in printed.splitlines())
    return printed


@pytest.mark.parametrize("depth", [1, 2])
def test_lag_breaks_no_name_of_a_service_or_topic(capsys: pytest.CaptureFixture[str], depth: int) -> None:
    figures = {"next_offset": 123456, "end_offset": 123456, "behind": 0, "state": "records_lost"}
    if depth == 1:
        figures = {"partitions": 24, "records_behind": 0, "worst_partition": 23, "its_records_behind": 9,
                   "state": "ok"}  # fmt: skip
    partition = {"partition": 1} if depth == 2 else {}
    rows = [
        {"service": reads.service, "topic": topic.name, **partition, **figures}
        for reads in READS
        for topic in reads.topics
    ]
    show.grouped(rows, depth, empty="")
    printed = shown(capsys)
    words = printed.split()
    for reads in READS:
        assert words.count(reads.service) == 1
        assert all(topic.name in words for topic in reads.topics)
    assert ("records_lost" if depth == 2 else "partitions") in words
    assert len(TOPICS) > 10


def test_what_is_wider_than_the_terminal_is_told_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    share, event = "01a22e0b-ac73-718b-b6e2-13a69fb53b22", "ShareRequested 80:00:00:00:01:00:00:01@1"
    show.table([{"share": share, "event": event, "its_state": None}] * 2, empty="")
    printed = shown(capsys)
    assert printed.count(share) == printed.count(event) == printed.count("its state") == 2


def test_what_fits_is_a_table_and_its_words_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([{"device": "[red]cam", "made_at": 1}, {"device": "cam-2", "made_at": 22}], empty="")
    head, first, second = (line.split() for line in shown(capsys).splitlines())
    assert (head, first, second) == (["device", "made", "at"], ["[red]cam", "1"], ["cam-2", "22"])


def test_nothing_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([], empty="Nothing is there.")
    show.grouped([], 1, empty="Nothing at all.")
    assert shown(capsys) == "Nothing is there.\nNothing at all.\n"
