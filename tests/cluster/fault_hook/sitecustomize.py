"""Loaded by every Python of the cluster test: who gets SIGUSR2 takes as much memory as FAULT_MEMORY_MB says."""

import os
import signal
import time
from typing import Any


def take_memory(*_: Any) -> None:
    """Fill memory and wait for what comes."""
    taken = bytearray(b"x") * (int(os.environ["FAULT_MEMORY_MB"]) * 2**20)
    time.sleep(120)
    del taken


if "FAULT_MEMORY_MB" in os.environ:
    signal.signal(signal.SIGUSR2, take_memory)
