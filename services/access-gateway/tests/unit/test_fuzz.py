"""A small, fixed share of ``bench/fuzz.py``: what is generated breaks no parser that strangers reach."""

import importlib.util
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[4] / "bench" / "fuzz.py"


def harness() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_harness", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def test_no_parser_breaks_on_what_is_generated() -> None:
    fuzz = harness()
    result = fuzz.fuzz(fuzz.PARSERS, 1000 * len(fuzz.PARSERS), 7, seconds=30.0)
    assert result.crashes == []
    assert all(count >= 100 for count in result.inputs.values())


def test_a_parser_that_breaks_is_noticed() -> None:
    fuzz = harness()

    def fragile(data: bytes) -> int:
        return data.index(b"Host")

    result = fuzz.fuzz([fuzz.Parser("fragile", fragile, fuzz.HEADS)], 200, 7, seconds=30.0)
    assert "fragile" in result.crashes[0]
