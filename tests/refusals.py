"""What is refused is told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CompletedProcess

import pytest

from cascadebench.core.errors import InputError


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """What is inside raises InputError with one line that holds all parts."""
    with pytest.raises(InputError) as caught:
        yield
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message


def assert_refused(done: CompletedProcess, message: str) -> None:
    """A command ended with one line and code 2."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "OneDL" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
