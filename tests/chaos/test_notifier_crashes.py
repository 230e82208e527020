"""Invitations while the notifier is killed, the broker restarted, all delivered again, and mails put off, by
Mailpit where Go can build it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench/notices_chaos.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_invitation_is_lost_and_none_is_doubled_outside_the_window() -> None:
    sizes = ["--mails", "300", "--kills", "10", "--broker-restarts", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *sizes], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert (outcome["lost"], outcome["outside"]) == (0, 0), outcome
    assert outcome["kills"] == 10
