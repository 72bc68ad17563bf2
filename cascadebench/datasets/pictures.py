"""What is known of the bytes of every picture: recorded when a dataset is prepared, compared when a picture is read.

``results/datasets/<name>/train_pictures.json`` and ``val_pictures.json`` hold the size of every picture's file and the
SHA-256 of its bytes, by image id. No path is in them, so equal bytes give equal files on every machine.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import read_json, read_object, sha256_of, write_text

Kind = Literal["sha256", "sizes"]
"""What is recorded of every picture: size and SHA-256 of its file, or its size alone."""
THREADS = min(16, 2 * (os.cpu_count() or 1))
"""Pictures that are read at once: hashing leaves Python's lock, and a network's file system answers several."""
_BATCH = 64  # pictures that a thread takes at once: of those that are known it only asks for size and times
_SAVED_EVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class PictureFile:
    """What was recorded of a picture's file."""

    bytes: int
    """Its size."""
    sha256: str | None = None
    """Of its bytes, 64 hex digits; None: the size alone was recorded."""

    def check(self, path: Path, content: bytes) -> None:
        """Compare the bytes that were read from `path`.

        Raises
        ------
        Fault
            If they are not those that were there when the dataset was prepared.
        """
        if len(content) != self.bytes:
            what = f"it has {len(content):,} bytes, {self.bytes:,} were recorded"
        elif self.sha256 is not None and hashlib.sha256(content).hexdigest() != self.sha256:
            what = "its SHA-256 is not the recorded one"
        else:
            return
        raise Fault(
            f"{path}: the picture was damaged or replaced since the dataset was prepared: {what}; put it back, or "
            "prepare the dataset again"
        )


def record_pictures(paths: Sequence[Path], kind: Kind, title: str, remembered: Path | None = None) -> list[PictureFile]:
    """Read every picture, several at once, and return what is to be recorded of it.

    A progress bar is shown where stderr is a terminal.

    Parameters
    ----------
    paths : sequence of Path
        Full paths.
    kind : str
        ``sha256``; or ``sizes``: no picture is opened.
    title : str
        Of the progress bar.
    remembered : Path or None
        File that keeps the checksums of pictures by path, size and times, so that of a picture that was not touched
        none is computed again. Saved while the pictures are read, too: what is interrupted need not begin anew.

    Raises
    ------
    InputError
        If a picture cannot be read, or changes while it is.
    """
    if kind == "sizes":
        return [PictureFile(path.stat().st_size) for path in paths]
    memory = _Memory(remembered)
    batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
    with _progress(title, len(paths)) as advance, ThreadPoolExecutor(THREADS) as threads:
        found: list[PictureFile] = []
        try:
            for pictures in threads.map(lambda batch: [memory.picture(path) for path in batch], batches):
                found += pictures
                memory.save_in_time()
                advance(len(pictures))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
        finally:
            memory.save()
    return found


class _Memory:
    """Checksums of pictures that were read before, by path; kept in a file if there is one."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.changed, self.saved = file, False, time.monotonic()
        self.known: dict[str, Any] = {}
        if file is not None and file.exists():
            with suppress(InputError):  # it saves time and nothing else
                self.known = read_object(file)

    def picture(self, path: Path) -> PictureFile:
        """What is to be recorded of a picture."""
        try:
            before = _stamp(path)
            known = self.known.get(str(path))
            if known and known[:-1] == before:
                return PictureFile(before[0], known[-1])
            found = PictureFile(before[0], sha256_of(path))
            if _stamp(path) != before:
                raise InputError(f"{path}: the picture was changed while it was read; prepare the dataset again")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self.known[str(path)], self.changed = [*before, found.sha256], True
        return found

    def save_in_time(self) -> None:
        """Save if it is time to."""
        if time.monotonic() - self.saved > _SAVED_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Write what is known, if there is anything new and a file for it."""
        if self.file is not None and self.changed:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps(self.known.copy()))
        self.changed, self.saved = False, time.monotonic()


def _stamp(path: Path) -> list[int]:
    """Size, and the times at which content and status were changed: whoever sets back the one changes the other."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


@contextmanager
def _progress(title: str, total: int) -> Iterator[Any]:
    """A bar on stderr while the block runs, on a terminal alone; gives the function that moves it on."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda number: progress.advance(task, number)


def write_pictures(path: Path, image_ids: Iterable[int], pictures: Iterable[PictureFile]) -> None:
    """Write what was recorded, one picture on a line."""
    records = (
        {"id": image_id, "bytes": picture.bytes} | ({"sha256": picture.sha256} if picture.sha256 else {})
        for image_id, picture in zip(image_ids, pictures, strict=True)
    )
    lines = ",\n".join(map(json.dumps, records))
    write_text(path, f'{{"pictures": [\n{lines}\n]}}\n')


def read_pictures(path: Path, sha256: str) -> dict[int, PictureFile]:
    """Read what was recorded, by image id.

    Parameters
    ----------
    sha256 : str
        Of the file, as ``lock.json`` says.

    Raises
    ------
    Fault
        If the file is missing or was changed since the dataset was prepared.
    """
    if not path.exists():
        raise Fault(f"{path}: no such file; it was there when the dataset was prepared")
    if sha256_of(path) != sha256:
        raise Fault(
            f"{path}: it was changed since the dataset was prepared: its checksum is not that of lock.json; delete "
            f"{path.parent} to prepare it again"
        )
    return {one["id"]: PictureFile(one["bytes"], one.get("sha256")) for one in read_json(path)["pictures"]}
