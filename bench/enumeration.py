"""Whether the duration of a share request tells something about the address that it names.

An owner sends the same kind of request, one after the other, for addresses of two kinds in turn: those that
have an account and those that have none (nobody has ever shared with either), and those that somebody else
has shared with and those that nobody has. The requests are real shares, and dry runs, which could be
repeated at leisure. For each it tells the median of both kinds, their difference with its 95 % interval by
bootstrap, and how often somebody who knows nothing but two durations picks the right one of the two (AUC;
0.5 is guessing), of any two and of two that were taken one after the other, which have the machine's ups
and downs in common. Of that many intervals one in twenty misses by chance: measure again before you believe
one.

    ./latchkey bench enumeration
"""

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop
from _load import Bench, Http, message

from contracts.directory import AccountSnapshot
from contracts.topics import DIRECTORY_ACCOUNTS
from devstack.status import Status
from servicekit.kafka import Producer

EACH = 300
WARM_UP = 100
RESAMPLES = 2_000
WAYS = {"share": "/v1/commands/RequestShare", "dry run": "/v1/explanations/RequestShare"}


def auc(ones: Sequence[float], others: Sequence[float]) -> float:
    """The chance that one of ``ones`` is larger than one of ``others`` (Mann-Whitney; a tie counts half)."""
    ordered = sorted([(value, True) for value in ones] + [(value, False) for value in others])
    ranks = 0.0
    place = 0
    while place < len(ordered):
        end = place
        while end < len(ordered) and ordered[end][0] == ordered[place][0]:
            end += 1
        middle = (place + 1 + end) / 2
        ranks += middle * sum(mine for _, mine in ordered[place:end])
        place = end
    return (ranks - len(ones) * (len(ones) + 1) / 2) / (len(ones) * len(others))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of the values."""
    ordered = sorted(values)
    return ordered[round(len(ordered) * 0.025)], ordered[round(len(ordered) * 0.975) - 1]


class Enumeration:
    """The addresses, and the durations of requests for them."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._chance = random.Random(4)
        self.with_account = self._addresses(2 * EACH)
        self.shared_by_another = self._addresses(EACH * 2)

    @staticmethod
    def _addresses(count: int) -> list[str]:
        """Addresses that look all the same, and that nobody knows."""
        return [f"p-{uuid4().hex[:16]}@bench.test" for _ in range(count)]

    async def prepare(self) -> None:
        """Make the accounts known, and have another owner share with others."""
        bench = self._bench
        await bench.provision()
        async with Producer(bench.bootstrap, "bench") as producer:
            for number, address in enumerate(self.with_account):
                name = f"bench-{bench.run}-p{number}"
                known = AccountSnapshot(account_id=name, name="Bench", verified_emails=(address,))
                await producer.send(DIRECTORY_ACCOUNTS.name, name, message(known))
        await bench.until(
            "select count(*) = $2 from share_command.account_address where account_id like $1",
            f"bench-{bench.run}-p%", len(self.with_account),
        )  # fmt: skip
        body = {
            "operation_id": f"enumeration-{bench.run}",
            "device_ids": [f"bench-{bench.run}-b0"],
            "recipients": self.shared_by_another,
            "permissions": "all",
            "notify": False,
        }
        http = await Http.open(bench.status.addresses["share-command"])
        await http.post("/v1/bulk-shares", bench.internal(f"bench-{bench.run}-bulk"), body)
        http.close()
        await self._durations("share", [(address, "") for address in self._addresses(WARM_UP)])
        await bench.settled()

    async def _durations(self, way: str, named: Sequence[tuple[str, str]]) -> dict[str, list[float]]:
        """Milliseconds by kind, of requests for addresses (address, kind) in the order given."""
        taken: dict[str, list[float]] = {}
        http = await Http.open(self._bench.status.addresses["share-command"])
        clients = self._bench.clients
        for number, (address, kind) in enumerate(named):
            client = clients[number // 2 % len(clients)]  # the same for both of a pair
            body = {"command_id": str(uuid4()), "device_ids": [client.device], "recipients": [address],
                    "notify": False}  # fmt: skip
            token = self._bench.internal(client.account)
            begin = time.perf_counter()
            await http.post(WAYS[way], token, body)
            taken.setdefault(kind, []).append((time.perf_counter() - begin) * 1000)
        http.close()
        return taken

    async def compared(
        self, way: str, ones: tuple[str, Sequence[str]], others: tuple[str, Sequence[str]]
    ) -> list[dict[str, Any]]:
        """The figures of requests for two kinds of addresses in turn, either first."""
        pairs: list[tuple[str, str]] = []
        for one, other in zip(ones[1], others[1], strict=True):
            pair = [(one, ones[0]), (other, others[0])]
            self._chance.shuffle(pair)
            pairs += pair
        taken = await self._durations(way, pairs)
        await self._bench.settled()
        one, other = taken[ones[0]], taken[others[0]]
        slower = [float(mine > theirs) for mine, theirs in zip(one, other, strict=True)]
        again = [
            (self._chance.choices(one, k=len(one)), self._chance.choices(other, k=len(other)))
            for _ in range(RESAMPLES)
        ]
        median = statistics.median
        low, high = interval([median(mine) - median(theirs) for mine, theirs in again])
        least, most = interval([auc(mine, theirs) for mine, theirs in again])
        fewest, largest = interval(
            [statistics.fmean(self._chance.choices(slower, k=len(slower))) for _ in range(RESAMPLES)]
        )
        name = f"{way}, {ones[0]} / {others[0]}"
        return [
            {"figure": f"{name}: p50", "value": round(median(one), 3), "unit": "ms", "peer": others[0],
             "peer_value": round(median(other), 3), "ratio": median(one) / median(other)},
            {"figure": f"{name}: difference", "value": round(median(one) - median(other), 3),
             "unit": f"ms (95 %: {low:+.3f} to {high:+.3f})", "aim": "0 in the interval",
             "met": low <= 0 <= high},
            {"figure": f"{name}: AUC", "value": round(auc(one, other), 3),
             "unit": f"(95 %: {least:.3f} to {most:.3f})", "aim": "0.5 in the interval",
             "met": least <= 0.5 <= most},
            {"figure": f"{name}: AUC, one after the other", "value": round(statistics.fmean(slower), 3),
             "unit": f"(95 %: {fewest:.3f} to {largest:.3f})", "aim": "0.5 in the interval",
             "met": fewest <= 0.5 <= largest},
        ]  # fmt: skip

    async def run(self) -> list[dict[str, Any]]:
        """All figures. Dry runs come first: they leave the addresses as they were."""
        await self.prepare()
        figures: list[dict[str, Any]] = []
        for way, part in (("dry run", slice(0, EACH)), ("share", slice(EACH, 2 * EACH))):
            for kind, addresses, other in (
                ("account", self.with_account, "no account"),
                ("shared with by another", self.shared_by_another, "by nobody"),
            ):
                none = self._addresses(EACH)
                figures += await self.compared(way, (kind, addresses[part]), (other, none))
                print(f"{datetime.now(UTC):%H:%M:%S} {way}, {kind}: done", flush=True)
        return figures


async def main(status: Status) -> dict[str, Any]:
    """Run all; returns the result line."""
    figures = await Enumeration(Bench(status)).run()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"name": "enumeration", "figures": figures, "runs": EACH, "machine": machine}


if __name__ == "__main__":
    result = uvloop.run(main(Status.model_validate_json(Path(sys.argv[1]).read_text())))
    print(json.dumps(result))
