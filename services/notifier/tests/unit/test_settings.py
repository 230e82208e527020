"""Settings that are refused, and what is shown of them."""

import pytest
from pydantic import ValidationError

from devstack.pytest_plugin import InternalTokenMaker
from notifier.delivery import retry_delay
from notifier.settings import Settings
from servicekit.settings import describe

KEYS = InternalTokenMaker()
GOOD: dict[str, object] = {
    "postgres_dsn": "postgresql://notifier:hidden-word@127.0.0.1/latchkey",
    "kafka_bootstrap": "127.0.0.1:9092",
    "public_url": "https://share.example.com/",
    "link_secret": "k" * 32,
    "mail_from": "Latchkey <no-reply@example.com>",
    "smtp_host": "mail.example.com",
    "internal_keys": KEYS.public_jwks,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"smtp_tls": "none"},
        {"smtp_host": "10.0.0.1", "smtp_tls": "none"},
        {"smtp_tls": "off"},
        {"public_url": "http://share.example.com"},
        {"public_url": "javascript:alert(1)"},
        {"public_url": "https://share.example.com/?x=1"},
        {"public_url": 'https://share.example.com/"x'},
        {"link_secret": "short"},
        {"mail_from": "nobody"},
        {"mail_from": "Latchkey <no-reply@example.com>\nBcc: eve@example.com"},
        {"smtp_username": "latchkey"},
        {"smtp_ca_file": "/nowhere/ca.pem"},
        {"retry_first_seconds": 10, "retry_most_seconds": 5},
        {"claim_seconds": 0},
        {"internal_keys": "{}"},
        {"internal_keys": '{"keys": []}'},
        {"push_key": KEYS.private_jwk},
        {"push_contact": "mailto:ops@example.com"},
        {"push_key": "{}", "push_contact": "mailto:ops@example.com"},
        {"push_key": KEYS.public_jwks, "push_contact": "mailto:ops@example.com"},
        {"push_key": KEYS.private_jwk, "push_contact": "ops"},
        {"fcm_account_file": "/nowhere/account.json"},
        {"fcm_url": "http://fcm.example.com"},
        {"sms_url": "https://sms.example.com"},
        {"sms_url": "http://sms.example.com", "sms_token": "t"},
        {"sms_sender": "A name that is too long"},
        {"digest_seconds": -1},
    ],
)
def test_unsafe_or_inconsistent_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({**GOOD, **wrong})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_an_unencrypted_mail_server_may_be_on_this_machine(host: str) -> None:
    assert Settings.model_validate({**GOOD, "smtp_host": host, "smtp_tls": "none"}).smtp_tls == "none"


def test_encryption_is_the_default_and_secrets_are_not_shown() -> None:
    settings = Settings.model_validate({**GOOD, "smtp_username": "latchkey", "smtp_password": "hidden-word"})
    assert settings.smtp_tls == "starttls"
    assert settings.public_url == "https://share.example.com"
    said = describe(settings)
    assert "hidden-word" not in said
    assert "k" * 32 not in said
    assert all(field.description for field in Settings.model_fields.values())


def test_waits_double_from_30_seconds_to_6_hours() -> None:
    waits = [
        retry_delay(failures, first=30, most=6 * 3600, jitter=0).total_seconds()
        for failures in (0, 1, 2, 9, 10, 500)
    ]
    assert waits == [30, 60, 120, 15360, 21600, 21600]
    assert retry_delay(0, first=30, most=6 * 3600, jitter=1).total_seconds() == 36
    assert retry_delay(0, first=30, most=6 * 3600, jitter=-1).total_seconds() == 24
