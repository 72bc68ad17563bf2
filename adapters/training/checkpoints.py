"""The last two checkpoints of a training, each with a digest of its content inside.

A checkpoint is written beside its place, flushed to the disk and renamed; the one before keeps the name
``previous.pt``. One that is torn or altered is told by its digest, and the training goes on from the other. There is no
random state to keep: every step is seeded anew, by :func:`cascadebench.determinism.training_order.step_seed`.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cascadebench.core.errors import Fault, InputError
from cascadebench.core.files import now, remove_unfinished, written_beside
from cascadebench.results.layout import CheckpointFolder

FIELDS = {"iteration", "consumed_sha256", "model", "optimizer", "scheduler"}


@dataclass(frozen=True)
class Resumed:
    """What a training begins with.

    Attributes
    ----------
    state : dict or None
        Content of the checkpoint; None: there is none that can be used.
    unusable : tuple of Path
        Checkpoints that were passed over.
    note : str or None
        One line that says what was passed over and why.
    """

    state: dict[str, Any] | None
    unusable: tuple[Path, ...] = ()
    note: str | None = None


class Checkpoints:
    """The checkpoints of a run, ``checkpoints/`` in its folder."""

    def __init__(self, folder: Path) -> None:
        files = CheckpointFolder(folder)
        self.last, self.previous, self._attempts = files.last, files.previous, files.attempts

    def load(self) -> Resumed:
        """Read the newest checkpoint that is whole.

        Raises
        ------
        Fault
            If the disk or the memory fails, which says nothing about the checkpoint.
        """
        problems, unusable = [], []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state = read_checkpoint(path)
            except InputError as error:
                problems.append(str(error))
                unusable.append(path)
                continue
            if problems:
                problems.append(f"resumed from {path.name} at iteration {state['iteration']}")
            return Resumed(state, tuple(unusable), "; ".join(problems) or None)
        if problems:
            problems.append("no whole checkpoint is left: started anew")
        return Resumed(None, tuple(unusable), "; ".join(problems) or None)

    def begin(self, resumed: Resumed, registered: Sequence[str] = ()) -> None:
        """Clear away what cannot be used and note the attempt.

        Parameters
        ----------
        resumed : Resumed
            What :meth:`load` gave.
        registered : sequence of str
            Digests of the registrations that plan this run, as they are now.
        """
        for path in resumed.unusable:
            path.unlink(missing_ok=True)
        remove_unfinished(self.last)
        start = resumed.state["iteration"] if resumed.state else 0
        line = {"start": start, "time": now(), "note": resumed.note, "registered": list(registered)}
        self._attempts.parent.mkdir(parents=True, exist_ok=True)
        with self._attempts.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def attempts(self) -> list[dict[str, Any]]:
        """Every process that trained this run: ``start`` (iteration), ``time``, ``note`` and ``registered``."""
        if not self._attempts.exists():
            return []
        lines = self._attempts.read_text(encoding="utf-8").splitlines()
        # A process may have been killed while it wrote its line, and the next one then stands behind it.
        return [json.loads(line[line.rindex('{"start"') :]) for line in lines if line.endswith("}")]

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint as the last one; the last one becomes the previous.

        Raises
        ------
        Fault
            If a weight is not finite: such a training is lost, and the checkpoint before it stays.
        """
        for name, tensor in state["model"].items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise Fault(f"the weights {name} are not finite after iteration {state['iteration'] - 1}", final=True)
        state = _plain(state)
        state["digest"] = _digest(state)
        # Through an open file: a path's name would enter the archive, and the same training give other bytes.
        with written_beside(self.last) as temporary:
            with temporary.open("wb") as stream:
                _write(state, stream)
            if self.last.exists():
                self.last.replace(self.previous)


def beginning(attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """When a training began and what was registered then: of its first process, whichever went on."""
    first = attempts[0] if attempts else {}
    return {"began": first.get("time"), "registered": first.get("registered", [])}


def _write(state: dict[str, Any], stream: Any) -> None:
    """Write a state to an open file, and tell a full disk as what it is."""
    try:
        torch.save(state, stream)
    except RuntimeError as error:  # torch raises its own error over that of the system
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint and compare its digest.

    Raises
    ------
    InputError
        If it is torn, altered or no checkpoint.
    Fault
        If the system cannot read it, which says nothing about its content.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError) as error:
        raise Fault(f"{path}: cannot be read: {error}") from error
    except Exception as error:  # a damaged archive makes torch fail in many ways
        said = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path}: damaged: {said[0][:200]}") from error
    if not isinstance(state, dict) or "digest" not in state or not state.keys() >= FIELDS:
        raise InputError(f"{path}: damaged: it is no checkpoint with a digest")
    found = state.pop("digest")
    if _digest(state) != found:
        raise InputError(f"{path}: damaged: its content is not that of its digest")
    return state


def _digest(value: Any) -> str:
    """SHA-256 over names, types, shapes and bytes of everything in a state."""
    digest = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous()
            digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
        elif isinstance(value, dict):
            digest.update(f"mapping {len(value)}".encode())
            for key, item in value.items():
                feed(key)
                feed(item)
        elif isinstance(value, list | tuple):
            digest.update(f"sequence {len(value)}".encode())
            for item in value:
                feed(item)
        else:
            digest.update(f"{type(value).__name__} {value!r}".encode())

    feed(value)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Rebuild a state so that equal texts are one object.

    An archive refers to an object that it has seen, not to an equal one; without this, a state that was read from a
    checkpoint would be written as other bytes than the same state that never was.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        copy = type(value)() if type(value).__name__ == "OrderedDict" else {}
        copy.update((_plain(key), _plain(item)) for key, item in value.items())
        if hasattr(value, "_metadata"):
            copy._metadata = _plain(value._metadata)
        return copy
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return value
