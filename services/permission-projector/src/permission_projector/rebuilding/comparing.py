"""Compares two generations that are at the same offsets: counts, hashes, and the first rows that differ.

The watermarks are left out (their topic keeps them for a day only), and so is the change feed, which tells
how the rows came about.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from permission_projector.rebuilding.building import SQL, Report
from servicekit import pg

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "share_event": ("device_id", "version"),
    "stream_quarantine": ("device_id",),
    "share": ("device_id", "share_id"),
    "device": ("device_id",),
    "service": ("device_id", "service_id"),
    "device_quarantine": ("device_id",),
    "account": ("account_id",),
    "account_address": ("account_id", "address"),
    "contact": ("contact_id",),
}
"""The tables that are compared, each with its key."""

_BUCKETS: Final = 4_096
_BUCKETS_SHOWN: Final = 8
_WORD: Final = 2**64

_Buckets = dict[int, tuple[int, int]]
_Rows = dict[tuple[str | None, ...], tuple[str | None, ...]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same in both: in one of them only, or with other values in ``columns``."""

    table: str
    key: dict[str, str | None]
    where: str
    columns: dict[str, tuple[str | None, str | None]] = field(
        default_factory=dict[str, tuple[str | None, str | None]]
    )


@dataclass(frozen=True, slots=True)
class TableFound:
    """A table in both: rows and hash, which are equal when all its rows are, whatever their order."""

    table: str
    rows: tuple[int, int]
    hashes: tuple[str, str]

    @property
    def is_equal(self) -> bool:
        """Whether both have the same rows."""
        return self.rows[0] == self.rows[1] and self.hashes[0] == self.hashes[1]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``not_compared``: tables and columns that one side alone has, being of another release."""

    tables: list[TableFound]
    differences: list[Difference]
    not_compared: list[str]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return all(table.is_equal for table in self.tables)


class Side:
    """One of the two: a generation as a session sees it (in a transaction with a snapshot of its own)."""

    def __init__(self, name: str, connection: pg.Connection, schema: str) -> None:
        self.name, self._connection, self._schema = name, connection, schema

    async def columns(self, table: str) -> list[str]:
        """The table's columns; none when there is no such table."""
        rows = await self._connection.fetch(SQL["columns"], f"{self._schema}.{table}")
        return [row["name"] for row in rows]

    async def buckets(self, table: str, columns: Sequence[str]) -> _Buckets:
        """Count and hash of the rows by the hash of their key."""
        query = SQL["buckets"].format(
            key=", ".join(KEYS[table]), columns=", ".join(columns), mask=_BUCKETS - 1,
            schema=self._schema, table=table,
        )  # fmt: skip
        rows = await self._connection.fetch(query)
        return {row["bucket"]: (row["rows"], int(row["hash"])) for row in rows}

    async def rows(self, table: str, columns: Sequence[str], buckets: Sequence[int]) -> _Rows:
        """The rows of buckets, as texts by their key."""
        query = SQL["rows_of_buckets"].format(
            key=", ".join(KEYS[table]), mask=_BUCKETS - 1, schema=self._schema, table=table,
            key_texts=", ".join(f"{name}::text" for name in KEYS[table]),
            column_texts=", ".join(f"{name}::text" for name in columns),
        )  # fmt: skip
        rows = await self._connection.fetch(query, buckets)
        return {tuple(row["key"]): tuple(row["columns"]) for row in rows}


async def compare(one: Side, other: Side, *, most: int, report: Report) -> Comparison:
    """Compare; at most ``most`` differences are shown."""
    found = Comparison([], [], [])
    for table in KEYS:
        report("comparing", table=table)
        mine, theirs = await one.columns(table), await other.columns(table)
        both = [name for name in mine if name in theirs]
        if not both:
            found.not_compared.append(table)
            continue
        found.not_compared.extend(f"{table}.{name}" for name in sorted({*mine} ^ {*theirs}))
        left, right = await one.buckets(table, both), await other.buckets(table, both)
        item = TableFound(
            table,
            (_count(left), _count(right)),
            (_hash(left), _hash(right)),
        )
        found.tables.append(item)
        unequal = sorted(
            number for number in left.keys() | right.keys() if left.get(number) != right.get(number)
        )
        if unequal and len(found.differences) < most:
            shown = unequal[:_BUCKETS_SHOWN]
            mine_there, theirs_there = (
                await one.rows(table, both, shown),
                await other.rows(table, both, shown),
            )
            differences = _differences(table, both, (one.name, mine_there), (other.name, theirs_there))
            found.differences.extend(differences[: most - len(found.differences)])
    return found


def _count(buckets: _Buckets) -> int:
    return sum(rows for rows, _ in buckets.values())


def _hash(buckets: _Buckets) -> str:
    return f"{sum(value for _, value in buckets.values()) % _WORD:016x}"


def _differences(
    table: str, columns: Sequence[str], one: tuple[str, _Rows], other: tuple[str, _Rows]
) -> list[Difference]:
    (name, mine), (other_name, theirs) = one, other
    found: list[Difference] = []
    for values in sorted(mine.keys() | theirs.keys(), key=str):
        key = dict(zip(KEYS[table], values, strict=True))
        left, right = mine.get(values), theirs.get(values)
        if left is None or right is None:
            found.append(Difference(table, key, f"only in {name if right is None else other_name}"))
        elif left != right:
            pairs = zip(columns, left, right, strict=True)
            found.append(
                Difference(
                    table,
                    key,
                    "in both",
                    {column: (ours, its) for column, ours, its in pairs if ours != its},
                )
            )
    return found
