"""Who is recorded as the one who changed something."""

import pwd
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from latchkey_ops.audit import Audit
from latchkey_ops.database import Database


class Kept(Database):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__(SecretStr("unused"))
        self.asked: list[tuple[object, ...]] = []

    async def rows(self, name: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        self.asked.append((name, *arguments))
        return [{"operation_id": 1}]


async def test_a_user_without_a_name_is_recorded_by_his_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as whatever number they are given (`docker run --user 54321`)."""

    def nobody(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    database = Kept()
    async with Audit(database, "a test").recorded("swap", {}):
        pass
    assert [asked[:2] for asked in database.asked] == [
        ("begin_operation", f"uid 54321@{socket.gethostname()}"),
        ("end_operation", 1),
    ]
