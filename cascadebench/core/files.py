"""Reading and writing files so that nothing is ever half-written."""

import glob
import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cascadebench.core.errors import InputError


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder and rename it to `path` when the block succeeds.

    Parameters
    ----------
    path : Path
        The final file; its folder is created. On an exception the temporary file is removed and `path` is untouched.
        What is renamed lies on the disk: a machine that fails leaves the old file or the new one, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = f".{path.name}.{socket.gethostname()}-"
    for leftover in path.parent.glob(f"{glob.escape(ours)}*"):
        if not Path(f"/proc/{leftover.name.removeprefix(ours).partition('-')[0]}").exists():
            leftover.unlink(missing_ok=True)  # of a process that was killed
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{ours}{os.getpid()}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner may read; results are shared in a group.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes of any machine left of `path`; only for one that alone may write the file."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{path.suffix}"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, beside and renamed."""
    with written_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline; NaN and infinities raise ``ValueError``."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as CSV with a header, beside and renamed; None and NaN are empty cells."""
    import pandas as pd  # half a second, which most commands do without

    # Objects, because a column of whole numbers with a gap would otherwise be printed as fractions.
    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def now() -> str:
    """The time in UTC, to the second, as every file says it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_bytes(path: Path) -> bytes:
    """Read a file; raises :class:`InputError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_text(path: Path, checksum: "hashlib._Hash | None" = None) -> str:
    """Read UTF-8, without the byte order mark that some editors write; `checksum` is fed with the bytes."""
    content = read_bytes(path)
    if checksum:
        checksum.update(content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error


def read_json(path: Path, each: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file; a missing or malformed one raises :class:`InputError` naming the file and the place.

    Parameters
    ----------
    each : callable or None
        Called with every object of the file when it has been read, innermost first; what it returns takes its place.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_hook=each)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{path}: lists or objects are nested too deep") from error
    except ValueError as error:  # Python reads no number of more digits
        most = sys.get_int_max_str_digits()
        raise InputError(f"{path}: a whole number has more than {most} digits") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises InputError if the file is missing, malformed or holds anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: an object is expected, found {type(value).__name__}")
    return value


def whole_lines(path: Path) -> list[str]:
    """Lines of a log of JSON objects, up to the first that was cut short or damaged; none if there is no such file."""
    kept: list[str] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                json.loads(line)
            except ValueError:
                break
            if not line.endswith("\n"):
                break
            kept.append(line)
    return kept


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no white space, ASCII; what identities are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def inside(root: Path, relative: str, what: str) -> Path:
    """Resolve `relative` below `root`; a path that leaves it, by ``..``, a link or a leading slash, raises InputError.

    Parameters
    ----------
    what : str
        Where the path stands ("train.json: images[3].file_name"), for the message.
    """
    base = root.resolve()
    try:
        path = (base / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a character that no path can hold
        raise InputError(f"{what}: {relative!r} is no path: {error}") from error
    if not path.is_relative_to(base):
        raise InputError(f"{what}: {relative!r} leaves its folder {root}")
    return path
