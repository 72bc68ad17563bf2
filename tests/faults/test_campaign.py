"""A few kills of a very small study, in processes of their own; ``make test-faults`` makes many."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_killed_and_restarted_study_ends_in_the_same_bytes(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("campaign.py")), "--kills", "4", "--seed", "1",
               "--variants", "faster_rcnn", "--iterations", "6", "--folder", str(tmp_path / "rounds")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    result = json.loads((tmp_path / "rounds" / "summary.json").read_text())
    assert result["kills"] >= 4
    assert result["differences"] == []
