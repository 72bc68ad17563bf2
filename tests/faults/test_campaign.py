"""A few kills of a very small study, in processes of their own; ``make test-faults`` makes many."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import campaign
import pytest
from campaign import Outcome, Step, disturb


def test_a_killed_and_restarted_study_ends_in_the_same_bytes(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("campaign.py")), "--kills", "4", "--seed", "1",
               "--variants", "faster_rcnn", "--iterations", "6", "--folder", str(tmp_path / "rounds")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    result = json.loads((tmp_path / "rounds" / "summary.json").read_text())
    assert result["kills"] >= 4
    assert result["differences"] == []


def wait(argv: tuple[str, ...]) -> int:
    """Stand in for a command: wait, or answer a signal with an exit code of its own."""
    seconds, *answers = map(float, argv)
    for code in answers:
        signal.signal(signal.SIGTERM, lambda *_, code=code: sys.exit(int(code)))
    try:
        time.sleep(seconds)
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize(
    ("argv", "delay", "code"),
    [(("0",), 60, 0), (("60",), 0.2, -15), (("60", "143"), 1.5, 143), (("60", "0"), 1.5, 0)],
    ids=["quicker than the signal", "ended by it", "answers it", "ends well all the same"],
)
def test_a_process_ends_before_the_signal_or_by_it(argv, delay, code, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "call", wait)
    assert disturb(Step("train", argv), tmp_path, delay, signal.SIGTERM) == code


def test_only_what_a_signal_ended_is_a_kill():
    outcome = Outcome()
    codes = [("train", 143, True), ("train", -15, True), ("report", -15, True), ("report", 0, False)]
    for stage, code, killed in codes:
        assert outcome.count(stage, signal.SIGTERM, code) is killed
    assert outcome.count("report", signal.SIGKILL, -9)
    assert (outcome.number, outcome.too_late, outcome.attempts) == (4, 1, 5)


@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [("train", signal.SIGTERM, 1), ("report", signal.SIGTERM, 143), ("train", signal.SIGKILL, 143)],
)
def test_an_end_that_a_signal_does_not_explain_is_an_error(stage, number, code):
    with pytest.raises(RuntimeError, match=f"{stage} ended with {code} after {number.name}"):
        Outcome().count(stage, number, code)
