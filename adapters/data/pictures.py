"""Reading pictures: what is wrong with one is said in the same words in every framework."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from cascadebench.core.errors import Fault
from cascadebench.datasets.prepared import ImageRecord


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every failure to read a picture inside the block into one :class:`Fault` that names the file."""
    try:
        yield
    except Fault:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes decoders fail in many ways
        raise Fault(_why(path, error)) from error


def open_picture(record: ImageRecord) -> Image.Image:
    """Open a picture from the bytes that were compared with what is recorded of them."""
    return Image.open(BytesIO(record.picture_bytes()))


def fault_as_item(read: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Let ``__getitem__`` of a dataset return the :class:`Fault` that it meets; the training loader raises it.

    An exception that leaves a process which reads pictures comes out of torch's loader as a traceback in a text.
    """

    @wraps(read)
    def item(dataset: Any, position: int) -> Any:
        try:
            return read(dataset, position)
        except Fault as fault:
            return fault

    return item


def check_size(record: ImageRecord, height: int, width: int) -> None:
    """Raise Fault if a picture that was read is of another size than its annotations say."""
    if (width, height) != (record.width, record.height):
        raise Fault(
            f"{record.path}: the picture has {width} x {height} pixels, its annotations say "
            f"{record.width} x {record.height}"
        )


def _why(path: Path, error: Exception) -> str:
    """Say what is wrong with a file, by opening it once more: decoders word it differently."""
    if not path.parent.exists():
        return f"{path.parent}: no such folder; are the pictures of the dataset still mounted?"
    if not path.exists():
        return f"{path}: no such file; it was there when the dataset was prepared"
    try:
        with Image.open(path) as picture:
            picture.load()
    except Image.UnidentifiedImageError:
        return f"{path}: cannot be read as a picture: it is none, or its beginning is damaged"
    except Exception as reason:
        return f"{path}: cannot be read as a picture: {reason}"
    return f"{path}: cannot be read as a picture: {error}"
