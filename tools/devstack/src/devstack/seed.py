"""The demo's accounts and devices. Ids have the form that remote.it gives its own."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, StreamPaths, Target
from contracts.permissions import Permission

OWNER_EMAIL: Final = "ann@example.test"
RECIPIENT_EMAIL: Final = "bob@example.test"

ACCOUNTS: Final = tuple(
    AccountSnapshot(account_id=account_id, name=name, verified_emails=(email,))
    for account_id, name, email in (
        ("ann", "Ann Keller", OWNER_EMAIL),
        ("bob", "Bob Rossi", RECIPIENT_EMAIL),
        ("cat", "Cat Ngo", "cat@example.test"),
        ("dan", "Dan Okafor", "dan@example.test"),
    )
)
"""Ann owns the demo devices; the others own nothing."""

WORKSHOP_PC: Final = "80:00:00:00:01:00:00:01"
ECHO: Final = "80:00:00:00:01:00:00:02"
STATUS_PAGE: Final = "80:00:00:00:01:00:00:03"
RECORDER: Final = "80:00:00:00:01:00:01:01"
GATE_CAMERA: Final = "80:00:00:00:01:00:01:02"
YARD_CAMERA: Final = "80:00:00:00:01:00:01:03"
ALARM_PANEL: Final = "80:00:00:00:01:00:02:01"
ALARM_PAGE: Final = "80:00:00:00:01:00:02:02"

_CREATED: Final = datetime(2025, 3, 1, 9, 0, tzinfo=UTC)
_CAMERA: Final = frozenset(
    {Permission.LIVE_VIEW, Permission.PLAYBACK, Permission.TWO_WAY_AUDIO, Permission.PTZ, Permission.CONNECT}
)
_ALARM: Final = frozenset({Permission.CONNECT, Permission.ALARM_NOTIFICATIONS, Permission.ARM})


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the demo services listen: one address, a TCP port each."""

    host: str
    echo_port: int
    status_port: int
    camera_port: int


def devices(targets: Targets) -> tuple[DeviceSnapshot, ...]:
    """Ann's devices, with services that lead to ``targets``."""
    echo = Target(host=targets.host, port=targets.echo_port)
    status = Target(host=targets.host, port=targets.status_port)
    camera = Target(host=targets.host, port=targets.camera_port)
    return (
        _device(
            WORKSHOP_PC,
            "Workshop PC",
            "computer",
            Service(service_id=ECHO, name="Terminal (echo)", protocol="tcp", target=echo),
            Service(service_id=STATUS_PAGE, name="Status page", protocol="http", target=status),
        ),
        _device(
            RECORDER,
            "Warehouse recorder",
            "recorder",
            *(
                Service(
                    service_id=service_id,
                    name=name,
                    protocol="rtsp",
                    target=camera,
                    channel=channel,
                    permissions=_CAMERA,
                    stream=StreamPaths(live="/ch{channel}/live", recording="/ch{channel}/recording"),
                )
                for channel, (service_id, name) in enumerate(
                    ((GATE_CAMERA, "Gate camera"), (YARD_CAMERA, "Yard camera")), start=1
                )
            ),
        ),
        _device(
            ALARM_PANEL,
            "Office alarm",
            "alarm_panel",
            Service(
                service_id=ALARM_PAGE,
                name="Alarm panel",
                protocol="http",
                target=status,
                permissions=_ALARM,
            ),
        ),
    )


def _device(device_id: str, name: str, kind: str, *services: Service) -> DeviceSnapshot:
    return DeviceSnapshot(
        device_id=device_id,
        owner_account_id=ACCOUNTS[0].account_id,
        name=name,
        kind=kind,
        services=services,
        created_at=_CREATED,
    )
