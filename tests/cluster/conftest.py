"""Prints at the end which faults were injected, and what became of each."""

import pytest

OUTCOMES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin an empty list."""
    config.stash[OUTCOMES] = []


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> list[str]:
    """Lines that are printed when all tests are done."""
    return pytestconfig.stash[OUTCOMES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the faults."""
    if config.stash[OUTCOMES]:
        terminalreporter.section("injected faults")
        for line in config.stash[OUTCOMES]:
            terminalreporter.write_line(line)
