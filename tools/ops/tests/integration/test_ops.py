"""The verbs as a person or a script runs them, on a real broker and database."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import notifier.consumer
import permission_projector.activity
import permission_projector.consumer
from contracts import topics
from contracts.base import new_id
from devstack.process import free_port
from latchkey_ops.lag import READS
from servicekit.kafka import Partition, Record

pytestmark = pytest.mark.slow


def test_lag_knows_what_every_service_reads() -> None:
    reads = {item.service: {topic.name for topic in item.topics} for item in READS}
    assert reads["permission-projector"] == {topic.name for topic in permission_projector.consumer.TOPICS}
    assert reads["permission-projector-activity"] == {
        topic.name for topic in permission_projector.activity.TOPICS
    }
    assert reads["notifier"] == set(notifier.consumer.TOPICS)
    # Its inbox has no list of them that can be asked without a broker.
    assert reads["share-command"] == {topics.DIRECTORY_DEVICES.name, topics.DIRECTORY_ACCOUNTS.name}


async def _store(place: Any, role: str, at: Partition, topic_id: str, offset: int, *, schema: str) -> None:
    await place.execute(
        f"insert into {schema}.kafka_offset values ($1, $2, $3, $4)"
        " on conflict (topic, partition) do update set topic_id = $3, next_offset = $4",
        at.topic, at.number, topic_id, offset, role=role,
    )  # fmt: skip


async def test_lag_tells_how_far_each_service_is_behind(place: Any) -> None:
    for _ in range(5):
        await place.producer.send(place.prefix + "share.events", "cam-1", b"{}")
    await place.producer.send(place.prefix + "share.commands", "cam-1", b"{}")
    (record, *_) = await place.sent(topics.SHARE_EVENTS)
    at = Partition(record.topic, record.partition)
    (topic_id,) = (await place.admin.topic_ids([at.topic])).values()
    await _store(place, "permission_projector", at, topic_id, 5, schema="permissions")
    await _store(place, "notifier", at, topic_id, 2, schema="notifier")

    answer = await place.ops("lag", "--json", "--max-records", "3")
    document = answer.document
    behind = {
        (item["service"], item["topic"]): (item["partition"], item["behind"])
        for item in document["partitions"]
        if item["behind"]
    }
    assert behind == {
        ("notifier", "share.events"): (at.number, 3),
        ("share-command", "share.commands"): (at.number, 1),
    }
    assert (document["ok"], document["problems"], answer.code) == (True, [], 0)
    services = {item["service"] for item in document["partitions"]}
    assert services == {item.service for item in READS}

    answer = await place.ops("lag", "--max-records", "2")
    assert answer.code == 1
    assert f"notifier: share.events, partition {at.number} is 3 records behind" in answer.out
    assert "share.commands" not in answer.out.partition("!")[2]


async def test_lag_tells_how_stale_permissions_are(place: Any) -> None:
    answer = await place.ops("lag", "--json", "--max-seconds", "15")
    assert (answer.code, answer.document["oldest_seconds"]) == (1, None)
    assert "24 device partitions were never proved fresh" in answer.document["problems"][0]
    ids = await place.admin.topic_ids([place.prefix + "share.events", place.prefix + "directory.devices"])
    for offset, seconds in enumerate((60, 10)):
        await place.execute(
            "insert into permissions.watermark values ($1, $2, $3, $4, $5, $6, $7, $5)",
            offset, datetime.now(UTC) - timedelta(seconds=seconds),
            place.prefix + "share.events", ids[place.prefix + "share.events"],
            # partition 3 has one record more than was read when the later watermark was made
            [1 if number == 3 and offset else 0 for number in range(24)],
            place.prefix + "directory.devices", ids[place.prefix + "directory.devices"],
        )  # fmt: skip
    answer = await place.ops("lag", "--json", "--max-seconds", "30")
    assert answer.code == 1
    assert 60 <= answer.document["oldest_seconds"] < 90
    assert answer.document["problems"][0].startswith(
        "1 device partitions are older than 30 s, the worst is 3"
    )
    assert (await place.ops("lag", "--max-seconds", "90")).code == 0


async def test_lag_sees_a_topic_that_was_made_anew_or_is_not_there(place: Any) -> None:
    at = Partition(place.prefix + "directory.devices", 7)
    await _store(place, "permission_projector", at, "another", 0, schema="permissions")
    answer = await place.ops("lag")
    assert answer.code == 1
    assert "permission-projector: directory.devices, partition 7: the topic was made anew" in answer.out
    answer = await place.ops("lag", "--json", LATCHKEY_TOPIC_PREFIX="nobodys.")
    assert answer.code == 1
    assert "The topic nobodys.share.events does not exist" in " ".join(answer.document["problems"])


async def test_topics_that_are_missing_are_made(place: Any) -> None:
    nothing = await place.ops("topics", "--json", LATCHKEY_POSTGRES_DSN=None)
    assert nothing.document == {"made": []}
    prefix = f"{place.prefix}new."
    made = await place.ops("topics", "--json", LATCHKEY_TOPIC_PREFIX=prefix)
    assert sorted(made.document["made"]) == sorted(prefix + topic.name for topic in topics.TOPICS)
    there = await place.admin.partitions([prefix + topics.SHARE_EVENTS.name])
    assert len(there) == topics.SHARE_EVENTS.partitions


async def test_lag_tells_whom_it_did_not_ask(place: Any) -> None:
    answer = await place.ops("lag", LATCHKEY_NOTIFIER_DSN=None)
    assert answer.code == 0
    assert "notifier was not asked: LATCHKEY_NOTIFIER_DSN is not set" in answer.out


def _record(place: Any, topic: topics.Topic, value: bytes, key: bytes | None = b"cam-1") -> Record:
    headers = [("traceparent", b"00-1"), ("empty", None)]
    return Record(place.prefix + topic.name, 5, 17, key, value, headers, 0)


async def test_a_command_is_sent_again_byte_for_byte_and_recorded(place: Any) -> None:
    value = b'{"half": \xff'
    await place.keep("share-command", _record(place, topics.SHARE_COMMANDS, value), "MALFORMED")
    listed = (await place.ops("dead-letters", "list", "--json")).document
    assert listed["total"] == 1
    (letter,) = listed["letters"]
    assert (letter["letter"], letter["code"], letter["source"], letter["can_be_retried"]) == (
        "share-command:0:0", "MALFORMED", "share.commands:5:17", True,
    )  # fmt: skip

    name = letter["letter"]
    shown = (await place.ops("dead-letters", "show", name, "--json")).document
    assert shown["headers"] == {"traceparent": "00-1", "empty": None}
    assert "value" not in shown
    assert (await place.ops("dead-letters", "show", name, "--json", "--value")).document[
        "value"
    ] == '{"half": \\xff'

    answer = await place.ops("dead-letters", "retry", name, "--dry-run")
    assert (answer.code, await place.sent(topics.SHARE_COMMANDS)) == (0, [])
    assert "would be sent" in answer.out

    answer = await place.ops("dead-letters", "retry", name, "--reason", "ticket 7", "--json")
    assert answer.document == {"dry_run": False, "sent": [name]}
    (sent,) = await place.sent(topics.SHARE_COMMANDS)
    assert (sent.key, sent.value, list(sent.headers)) == (
        b"cam-1", value, [("traceparent", b"00-1"), ("empty", None)],
    )  # fmt: skip
    (operation,) = (await place.ops("operations", "--json")).document["operations"]
    assert (operation["what"], operation["reason"], operation["outcome"]) == (
        "dead-letters retry", "ticket 7", "done",
    )  # fmt: skip
    assert operation["arguments"] == {"letter": name, "code": "MALFORMED"}
    assert "@" in operation["who"]

    answer = await place.ops("dead-letters", "retry", name)
    assert answer.code == 1
    assert "was sent again at" in answer.err
    assert (await place.ops("dead-letters", "retry", "--all", "--json")).document["sent"] == []
    assert len(await place.sent(topics.SHARE_COMMANDS)) == 1
    assert (await place.ops("dead-letters", "retry", name, "--again")).code == 0
    assert len(await place.sent(topics.SHARE_COMMANDS)) == 2


async def test_what_is_no_command_is_not_sent_again_and_nothing_beside_it(place: Any) -> None:
    await place.keep("share-command", _record(place, topics.SHARE_COMMANDS, b"{}"), "MALFORMED")
    await place.keep("share-command", _record(place, topics.SHARE_COMMANDS, b"x" * 950_000), "TOO_LARGE")
    await place.keep("permission-projector", _record(place, topics.SHARE_EVENTS, b"{}"), "VERSION_GAP")
    await place.keep("notifier", _record(place, topics.DIRECTORY_ACCOUNTS, b"{}"), "MALFORMED")
    listed = (await place.ops("dead-letters", "list", "--json")).document["letters"]
    assert {item["letter"]: item["can_be_retried"] for item in listed} == {
        "share-command:0:0": True,
        "share-command:0:1": False,
        "permission-projector:0:0": False,
        "notifier:0:0": False,
    }
    for letter, advice in (
        ("permission-projector:0:0", "ops quarantine release DEVICE"),
        ("notifier:0:0", "Have the registry publish the account again"),
        ("share-command:0:1", "Have the upstream service send a smaller command"),
    ):
        answer = await place.ops("dead-letters", "retry", "share-command:0:0", letter)
        assert (answer.code, answer.err.count("\n")) == (1, 1)
        assert advice in answer.err
        assert advice in (await place.ops("dead-letters", "show", letter)).out
    assert await place.sent(topics.SHARE_COMMANDS) == []
    answer = await place.ops("dead-letters", "retry", "--all", "--code", "MALFORMED", "--json")
    assert answer.document["sent"] == ["share-command:0:0"]


async def test_letters_are_chosen_by_service_code_and_number(place: Any) -> None:
    for number in range(4):
        record = _record(place, topics.SHARE_COMMANDS, b"%d" % number)
        await place.keep("share-command", record, "MALFORMED" if number % 2 else "UNKNOWN_TYPE")
    await place.keep("notifier", _record(place, topics.SHARE_EVENTS, b"{}"), "MALFORMED")

    async def names(*options: str) -> list[str]:
        document = (await place.ops("dead-letters", "list", "--json", *options)).document
        return [item["letter"] for item in document["letters"]]

    assert await names("--service", "notifier") == ["notifier:0:0"]
    assert await names("--code", "UNKNOWN_TYPE") == ["share-command:0:0", "share-command:0:2"]
    assert await names("--service", "share-command", "--limit", "1") == ["share-command:0:3"]
    answer = await place.ops("dead-letters", "list", "--service", "portal")
    assert (answer.code, "portal has no dead letters" in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("share-command:0:99", 1, "There is no dead letter share-command:0:99"),
        ("share-command:9:0", 1, "There is no dead letter"),
        ("nobody:0:0", 2, "nobody has no dead letters"),
        ("17", 2, "is no name of a dead letter"),
    ],
)
async def test_a_letter_that_is_not_there_is_one_line(place: Any, name: str, code: int, said: str) -> None:
    answer = await place.ops("dead-letters", "show", name)
    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert said in answer.err


async def test_quarantine_tells_what_to_do(place: Any) -> None:
    assert "No device is in quarantine" in (await place.ops("quarantine", "list")).out
    await place.execute("insert into permissions.stream_quarantine values ('cam-1', 'VERSION_GAP', 9)")
    await place.execute("insert into permissions.device_quarantine values ('cam-2', 'MALFORMED', 4)")
    devices = (await place.ops("quarantine", "list", "--json")).document["devices"]
    assert [(item["device_id"], item["topic"], item["code"], item["offset"]) for item in devices] == [
        ("cam-1", "share.events", "VERSION_GAP", 9),
        ("cam-2", "directory.devices", "MALFORMED", 4),
    ]
    assert "ops quarantine release cam-1" in devices[0]["what_to_do"]
    assert "have the registry publish the device again" in devices[1]["what_to_do"]
    answer = await place.ops("quarantine", "release", "cam-3")
    assert (answer.code, "cam-3 is not in quarantine" in answer.err) == (1, True)
    answer = await place.ops("quarantine", "release", "cam-1", "--dry-run")
    assert (answer.code, "would be read again" in answer.out) == (0, True)
    assert (await place.ops("operations", "--json")).document["operations"] == []
    assert len((await place.ops("quarantine", "list", "--json")).document["devices"]) == 2


async def _history(place: Any) -> None:
    share, contact = new_id(), new_id()
    terms = json.dumps({"scope": {"kind": "all", "permissions": ["connect"]}, "scripting": False})
    for version, kind, state, account, day in (
        (1, "ShareRequested", "requested", None, 1),
        (2, "ShareAccepted", "active", "ravi", 2),
        (3, "ShareRevoked", "revoked", "ravi", 5),
    ):
        await place.execute(
            "insert into permissions.share_event values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13)",
            "cam-1", version, new_id(), share, kind, datetime(2026, 1, day, tzinfo=UTC), state, account,
            "olga", contact, terms if version == 1 else None, "by_owner" if version == 3 else None, None,
        )  # fmt: skip


async def test_who_had_access_and_why(place: Any) -> None:
    await _history(place)
    ask = ("who-had-access", "cam-1", "--service", "cam-1-ssh", "--at")
    items = (await place.ops(*ask, "2026-01-03T00:00:00Z", "--json")).document["items"]
    assert [(item["role"], item["account"]["account_id"]) for item in items] == [
        ("owner", "olga"), ("recipient", "ravi"),
    ]  # fmt: skip
    assert (items[1]["by"]["kind"], items[1]["by"]["version"]) == ("ShareAccepted", 2)
    items = (await place.ops(*ask, "2026-01-06T01:00:00+01:00", "--json")).document["items"]
    assert [item["role"] for item in items] == ["owner"]
    answer = await place.ops(*ask, "2026-01-03T00:00:00Z")
    assert (answer.code, answer.err) == (0, "")
    assert "ravi" in answer.out
    assert "ShareAccepted cam-1@2" in answer.out

    ask = ("why", "ravi", "cam-1", "cam-1-ssh", "connect")
    document = (await place.ops(*ask, "--at", "2026-01-03T00:00:00Z", "--json")).document
    assert (document["allowed"], document["reason"], document["by"]["kind"]) == (
        True, "granted", "ShareAccepted",
    )  # fmt: skip
    answer = await place.ops(*ask)
    assert (answer.code, answer.err) == (0, "")
    assert "ShareRevoked cam-1@3" in answer.out
    answer = await place.ops("who-had-access", "cam-1", "--at", "yesterday")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "'yesterday' is no time with its zone" in answer.err


async def test_a_broker_that_is_away_is_one_line_and_an_exit_code(place: Any) -> None:
    answer = await place.ops("dead-letters", "list", LATCHKEY_KAFKA_BOOTSTRAP=f"127.0.0.1:{free_port()}")
    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert "The broker does not answer" in answer.err


async def test_a_database_that_is_away_is_one_line_without_its_password(place: Any) -> None:
    dsn = f"postgresql://someone:s3cret@127.0.0.1:{free_port()}/nowhere"
    for verb in (["operations"], ["quarantine", "list"], ["lag"]):
        answer = await place.ops(*verb, LATCHKEY_POSTGRES_DSN=dsn)
        assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
        assert "The database does not answer" in answer.err
        assert "s3cret" not in answer.err


async def test_what_is_not_set_is_named(place: Any) -> None:
    answer = await place.ops("lag", LATCHKEY_POSTGRES_DSN=None, LATCHKEY_KAFKA_BOOTSTRAP=None)
    assert answer.code == 2
    assert "LATCHKEY_POSTGRES_DSN" in answer.err
    assert "LATCHKEY_KAFKA_BOOTSTRAP" in answer.err


async def test_the_role_of_another_service_is_told_which_one_is_needed(place: Any) -> None:
    answer = await place.ops("operations", LATCHKEY_POSTGRES_DSN=place.database.dsn("notifier"))
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "must be that of the role permission_projector" in answer.err


async def test_the_launcher_asks_the_installation_that_the_environment_names(place: Any, launch: Any) -> None:
    answer = await launch("operations", "--json", **place.env)
    assert answer.document == {"operations": []}
    answer = await launch("dead-letters", "show", "share-command:0:0", **place.env)
    assert (answer.code, answer.out) == (1, ""), "the exit code is the verb's"


async def test_the_launcher_without_a_stack_says_so_and_explains_itself_all_the_same(
    launch: Any, tmp_path: Path
) -> None:
    answer = await launch("--state", str(tmp_path / "none"), "lag")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "No stack runs" in answer.err
    answer = await launch("--state", str(tmp_path / "none"), "lag", LATCHKEY_SECRETS_DIR=str(tmp_path))
    assert answer.code == 2  # told of an installation, it asks no other
    assert "LATCHKEY_POSTGRES_DSN: Field required" in answer.err
    answer = await launch("dead-letters", "retry", "--help")
    assert (answer.code, "./latchkey ops dead-letters retry" in answer.out) == (0, True)
