"""A topic full of share events, the same for the same seed, and the rows that each event leaves behind.

Devices have about ten events and four shares each. A share is requested, most are accepted, half of those are
changed and a quarter taken back. An eighth of all shares go on at any time, mixed with one another.

The text of an event is put together from templates, which is many times quicker than the codec; the first of
each type is checked against it.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Producer

from contracts import codec, topics
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from contracts.permissions import Permission
from servicekit.kafka import partition_of

PARTITIONS = topics.DEVICE_PARTITIONS
SHARE_ROWS = "bench.share-rows"
EVENT_ROWS = "bench.event-rows"
SNAPSHOTS = 1_000
SOURCE = "share-command"

TABLES = """
create table share (
    device_id text not null, share_id uuid not null, contact_id uuid not null, owner_account_id text not null,
    state text not null, account_id text, terms jsonb not null, invitation_version bigint not null,
    requested_at timestamptz not null, since timestamptz not null, expires_at timestamptz,
    version bigint not null,
    primary key (device_id, share_id)
) with (fillfactor = 75);
create index on share (account_id, device_id) where account_id is not null;
create index on share (contact_id);
create table share_event (
    device_id text not null, version bigint not null, event_id uuid not null, share_id uuid not null,
    kind text not null, at timestamptz not null, state text not null, account_id text,
    owner_account_id text not null, contact_id uuid not null, terms jsonb, reason text, correlation_id text,
    primary key (device_id, version)
);
"""
"""The projector's two tables that share events go to, with their indexes, for its peers."""

_BEGIN = datetime(2026, 1, 2, tzinfo=UTC)
_STEP_MS = 200
_KINDS = ("ShareRequested", "ShareAccepted", "ShareChanged", "ShareRevoked")
_STATES = {"ShareRequested": "requested", "ShareRevoked": "revoked"}


class Happened(NamedTuple):
    """One event, and its share after it. Times are as JSON has them, ids are text, terms are JSON."""

    device_id: str
    version: int
    event_id: str
    share_id: str
    kind: str
    at: str
    state: str
    account_id: str | None
    owner_account_id: str
    contact_id: str
    terms: str
    says_terms: bool
    invitation_version: int
    requested_at: str
    since: str
    correlation_id: str
    reason: str | None

    def envelope(self) -> str:
        """The message on ``share.events``, as ``codec.encode`` makes it."""
        match self.kind:
            case "ShareRequested":
                rest = f'"terms":{self.terms},"notify":true'
            case "ShareAccepted":
                rest = f'"account_id":"{self.account_id}","automatic":false'
            case "ShareChanged":
                rest = f'"state":"active","terms":{self.terms},"notify":true,"reason":"{self.reason}"'
            case _:
                rest = f'"reason":"{self.reason}","account_id":"{self.account_id}"'
        return (
            f'{{"specversion":"1.0","id":"{self.event_id}","type":"latchkey.{self.kind}.v1","source":"{SOURCE}",'
            f'"subject":"{self.device_id}","time":"{self.at}","datacontenttype":"application/json",'
            f'"version":{self.version},"correlationid":"{self.correlation_id}","data":{{'
            f'"share_id":"{self.share_id}","device_id":"{self.device_id}","contact_id":"{self.contact_id}",'
            f'"owner_account_id":"{self.owner_account_id}",{rest}}}}}'
        )

    def share_row(self) -> str:
        """The share's whole row after this event, as flat JSON with the terms as a text."""
        account = f'"account_id":"{self.account_id}",' if self.account_id else ""
        return (
            f'{{"device_id":"{self.device_id}","share_id":"{self.share_id}","contact_id":"{self.contact_id}",'
            f'"owner_account_id":"{self.owner_account_id}","state":"{self.state}",{account}'
            f'"terms":"{_escaped(self.terms)}","invitation_version":{self.invitation_version},'
            f'"requested_at":"{self.requested_at}","since":"{self.since}","version":{self.version}}}'
        )

    def event_row(self) -> str:
        """The row of the history, as flat JSON with the terms as a text."""
        account = f'"account_id":"{self.account_id}",' if self.account_id else ""
        terms = f'"terms":"{_escaped(self.terms)}",' if self.says_terms else ""
        reason = f'"reason":"{self.reason}",' if self.reason else ""
        return (
            f'{{"device_id":"{self.device_id}","version":{self.version},"event_id":"{self.event_id}",'
            f'"share_id":"{self.share_id}","kind":"{self.kind}","at":"{self.at}","state":"{self.state}",'
            f'{account}"owner_account_id":"{self.owner_account_id}","contact_id":"{self.contact_id}",'
            f'{terms}{reason}"correlation_id":"{self.correlation_id}"}}'
        )


@dataclass(slots=True)
class _Share:
    """An open share of the device with this number."""

    device: int
    share_id: str
    contact: int
    ahead: list[str]
    version: int = 0
    invitation_version: int = 0
    requested_at: str = ""
    since: str = ""
    account_id: str | None = None
    terms: str = ""


@dataclass
class Totals:
    """What a run of the events leaves; ``last`` is each partition's last event."""

    events: int = 0
    shares: int = 0
    share_versions: int = 0
    """The sum of ``version`` over the shares' rows: with their number, a check that all are the newest."""
    last: dict[int, Happened] = field(default_factory=dict[int, Happened])


class _Ids:
    """UUIDs of version 7 and time stamps, as of the event that is being made."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._begin_ms = int(_BEGIN.timestamp() * 1000)
        self._second, self._second_text = -1, ""
        self.at = self._prefix = ""

    def at_event(self, number: int) -> None:
        """Move the clock to the event with this number."""
        ms = self._begin_ms + number * _STEP_MS
        if ms // 1000 != self._second:
            self._second = ms // 1000
            self._second_text = datetime.fromtimestamp(self._second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        fraction = f".{ms % 1000:03d}000" if ms % 1000 else ""  # whole seconds are written without one
        self.at = f"{self._second_text}{fraction}Z"
        text = f"{ms:012x}"
        self._prefix = f"{text[:8]}-{text[8:]}-7"

    def new(self) -> str:
        """One more id."""
        drawn = f"{self.random.getrandbits(76):019x}"
        return f"{self._prefix}{drawn[:3]}-{'89ab'[int(drawn[18], 16) & 3]}{drawn[3:6]}-{drawn[6:18]}"


def device_id(number: int) -> str:
    """The id of a device, in the form that registries give."""
    return f"80:00:00:{number >> 16 & 255:02X}:{number >> 8 & 255:02X}:{number & 255:02X}:00:01"


def happen(events: int, seed: int, totals: Totals) -> Iterator[Happened]:
    """The events in their order, with ``totals`` counted along."""
    ids = _Ids(seed)
    draw = ids.random.random
    devices, contacts = max(events // 10, 1), max(events // 20, 1_000)
    versions, shares_of, partitions = [0] * devices, [0] * devices, [-1] * devices
    # Two events of five open a share, so that three places of five are taken.
    places = max(events // 12, 1)
    going: list[_Share] = []
    for number in range(events):
        ids.at_event(number)
        place = int(draw() * places)
        if place >= len(going):
            place, device = len(going), int(draw() * devices)
            shares_of[device] += 1
            # Contacts go on from one to the next: a share is one for each device and contact.
            contact = (device * 7919 + shares_of[device]) % contacts
            going.append(_Share(device, ids.new(), contact, _life(draw())))
            totals.shares += 1
        share = going[place]
        kind = share.ahead.pop()
        if not share.ahead:
            last = going.pop()
            if last is not share:
                going[place] = last
        device, name = share.device, device_id(share.device)
        versions[device] = version = versions[device] + 1
        match kind:
            case "ShareRequested":
                share.invitation_version, share.requested_at = version, ids.at
                share.terms = _terms(name, draw())
            case "ShareAccepted":
                share.account_id = f"acc-{share.contact:08x}"
            case "ShareChanged":
                share.terms = _terms(name, draw())
            case _:
                pass
        if kind != "ShareChanged":  # which leaves a share as it was, active
            share.since = ids.at
        totals.events += 1
        totals.share_versions += version - share.version
        share.version = version
        happened = Happened(
            device_id=name,
            version=version,
            event_id=ids.new(),
            share_id=share.share_id,
            kind=kind,
            at=ids.at,
            state=_STATES.get(kind, "active"),
            account_id=share.account_id,
            owner_account_id=f"acc-owner-{device // 10:06x}",
            contact_id=f"01950000-0000-7000-8000-{share.contact * 0x9E3779B97F4B & 0xFFFFFFFFFFFF:012x}",
            terms=share.terms,
            says_terms=kind in {"ShareRequested", "ShareChanged"},
            invitation_version=share.invitation_version,
            requested_at=share.requested_at,
            since=share.since,
            correlation_id=ids.new(),
            reason="by_owner" if kind in {"ShareChanged", "ShareRevoked"} else None,
        )
        if partitions[device] < 0:
            partitions[device] = partition_of(name.encode(), PARTITIONS)
        totals.last[partitions[device]] = happened
        yield happened


def _life(chance: float) -> list[str]:
    """The events of a share, last first: 2.5 of them on average."""
    if chance < 0.15:
        return ["ShareRequested"]
    life = ["ShareAccepted", "ShareRequested"]
    if chance < 0.575:
        life.insert(0, "ShareChanged")
    if int(chance * 1000) % 4 == 0:
        life.insert(0, "ShareRevoked")
    return life


def _terms(device: str, chance: float) -> str:
    """Terms of one of four shapes, as JSON."""
    stem = device[:-2]
    if chance < 0.4:
        scope = '{"kind":"all","permissions":"all"}'
    elif chance < 0.6:
        scope = '{"kind":"all","permissions":["connect","live_view"]}'
    elif chance < 0.8:
        scope = f'{{"kind":"some","services":{{"{stem}02":["live_view","ptz"]}}}}'
    else:
        scope = f'{{"kind":"some","services":{{"{stem}02":["live_view","playback"],"{stem}03":"all"}}}}'
    return f'{{"scope":{scope},"scripting":{"true" if chance * 10 % 1 < 0.5 else "false"}}}'


def _escaped(text: str) -> str:
    return text.replace('"', '\\"')


class Filler:
    """Produces as quickly as librdkafka can, with the partitions that every producer of ours chooses."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 50,
                "batch.size": 1_000_000,
                "log_level": 3,
                "queue.buffering.max.messages": 200_000,
            }
        )

    def send(self, topic: str, key: str, value: str | bytes, correlation_id: str | None = None) -> None:
        """Put one message in the queue, and wait when that is full."""
        headers: list[tuple[str, str | bytes | None]] = (
            [("correlation_id", correlation_id)] if correlation_id else []
        )
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def finish(self) -> None:
        """Wait until the broker has all.

        Raises:
            RuntimeError: it has not.
        """
        if left := self._producer.flush(120):
            raise RuntimeError(f"{left} messages were not taken by the broker.")


class Filled(NamedTuple):
    """What was put into the topics."""

    totals: Totals
    mean_bytes: float
    seconds: float


def fill(bootstrap: str, topic: str, events: int, seed: int, *, with_rows: bool) -> Filled:
    """Put ``events`` events into ``topic``, and if asked their rows into `SHARE_ROWS` and `EVENT_ROWS`.

    The rows stand in the same order in the same partitions.

    Raises:
        RuntimeError: a template is not what the codec makes, or the broker did not take all.
    """
    begun = time.perf_counter()
    filler, totals, checked, size = Filler(bootstrap), Totals(), set[str](), 0
    for happened in happen(events, seed, totals):
        text = happened.envelope()
        if happened.kind not in checked:
            checked.add(happened.kind)
            if codec.encode(codec.decode(text.encode())) != text.encode():
                raise RuntimeError(f"The template of {happened.kind} is not what the codec makes: {text}")
        size += len(text)
        filler.send(topic, happened.device_id, text, happened.correlation_id)
        if with_rows:
            filler.send(SHARE_ROWS, happened.device_id, happened.share_row())
            filler.send(EVENT_ROWS, happened.device_id, happened.event_row())
    filler.finish()
    if checked != set(_KINDS):
        raise RuntimeError(f"{events} events are too few to have one of each type.")
    return Filled(totals, size / events, time.perf_counter() - begun)


def fill_directories(bootstrap: str) -> None:
    """Snapshots of the first devices and of their owners."""
    filler = Filler(bootstrap)
    functions = frozenset({Permission.CONNECT, Permission.LIVE_VIEW, Permission.PLAYBACK, Permission.PTZ})
    for number in range(SNAPSHOTS):
        name, owner = device_id(number), f"acc-owner-{number // 10:06x}"
        services = tuple(
            Service(
                service_id=f"{name[:-2]}{ordinal:02d}",
                name=f"Camera {ordinal - 1}",
                protocol="rtsp",
                target=Target(host="127.0.0.1", port=8554),
                channel=ordinal - 1,
                permissions=functions,
            )
            for ordinal in (2, 3)
        )
        device = DeviceSnapshot(
            device_id=name,
            owner_account_id=owner,
            name=f"Recorder {number}",
            kind="recorder",
            services=services,
        )
        account = AccountSnapshot(account_id=owner, name="Owner", verified_emails=(f"{owner}@bench.test",))
        for topic, key, data in (
            (topics.DIRECTORY_DEVICES.name, name, device),
            (topics.DIRECTORY_ACCOUNTS.name, owner, account),
        ):
            message = codec.envelope(data, source="registry", time=_BEGIN, subject=key)
            filler.send(topic, key, codec.encode(message))
    filler.finish()
