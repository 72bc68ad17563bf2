"""Puts what the steps of run.sh left into summary.json and summary.md, and says which were not done."""

import argparse
import io
import os
import platform
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from summary_page import QUANTITIES, page

from adapters.training.arithmetic import arithmetic, set_arithmetic
from cascadebench.core.configuration import PROJECT
from cascadebench.core.files import read_json, write_json, write_text
from cascadebench.study.study import Study
from cascadebench.study_loading import load_study

STEPS = ("parity", "throughput", "train", "resume")
PACKAGES = (
    "torch", "torchvision", "triton", "onedl-mmcv", "onedl-mmdetection", "onedl-mmengine", "sal-detectron2", "fvcore",
    "numpy", "pandas", "pyarrow", "pillow", "opencv-python-headless", "pycocotools", "numba", "scipy", "snakemake",
)  # fmt: skip


def command_output(*command: str) -> str | None:
    """Return what a command prints; None if there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def version_of(package: str) -> str | None:
    """Version of an installed package; None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine(device: str) -> dict[str, Any]:
    """Device, driver and versions."""
    set_arithmetic(deterministic=False)
    found = {"device": f"CPU ({platform.machine()})", "driver": None, "processors": os.cpu_count()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        query = ("nvidia-smi", "-i", os.environ["CUDA_VISIBLE_DEVICES"], "--format=csv,noheader")
        found |= {
            "device": properties.name,
            "memory_mb": properties.total_memory // 2**20,
            "capability": f"{properties.major}.{properties.minor}",
            "driver": command_output(*query, "--query-gpu=driver_version"),
        }
    return found | {
        "system": platform.platform(),
        "python": platform.python_version(),
        # torch's own word, which names its CUDA; what the machine brought may differ from the lock.
        "versions": {package: version_of(package) for package in PACKAGES} | {"torch": torch.__version__},
        "arithmetic": arithmetic(),
        "commit": command_output("git", "rev-parse", "HEAD"),
    }


def table(path: Path) -> pd.DataFrame | None:
    """Read a table of a study; None if it is not there yet."""
    return pd.read_csv(path) if path.exists() else None


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, with None where a cell is empty."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def accuracy(folder: Path) -> dict[str, Any]:
    """AP of the headlines by seed, and gaps with their intervals."""
    found: dict[str, Any] = {"ap": None, "gaps": None, "runs": None, "cost": None}
    if (ap := table(folder / "ap.csv")) is not None:
        found["ap"] = rows(ap.loc[ap["headline"], ["label", "framework", "seed", "test_stage", *QUANTITIES]])
    if (intervals := table(folder / "intervals.csv")) is not None:
        columns = ["label", "framework", "gap", "quantity", "value", "low", "high", "seeds"]
        found["gaps"] = rows(intervals.loc[intervals["gap"].notna(), columns])
    if (status := table(folder / "status.csv")) is not None:
        found["runs"] = {state: int(number) for state, number in status["state"].value_counts().items()}
    if (cost := table(folder / "cost.csv")) is not None:
        found["cost"] = rows(cost.drop(columns=["run"]))
    return found


def samples(path: Path) -> pd.DataFrame:
    """What nvidia-smi noted: time, use in percent, memory in MiB, power in watts, clock in MHz."""
    names = ["time", "use", "memory", "power", "clock"]
    text = path.read_text() if path.exists() else ""
    frame = pd.read_csv(io.StringIO(text), names=names, skipinitialspace=True, on_bad_lines="skip")
    frame["time"] = pd.to_datetime(frame["time"], format="%Y/%m/%d %H:%M:%S.%f", errors="coerce")
    for name in names[1:]:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")  # "[N/A]" where a device does not tell
    return frame[frame["time"].notna()]


def use_of_gpu(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Means and maxima of samples; None without any."""
    if frame.empty:
        return None
    found = {f"{name}_mean": frame[name].mean() for name in ("use", "power", "clock")}
    found["memory_max"] = frame["memory"].max()
    return {"samples": len(frame)} | {
        name: None if pd.isna(value) else round(float(value), 1) for name, value in found.items()
    }


def throughput(work: Path) -> dict[str, Any] | None:
    """Detectors alone on the device, with the use of the GPU in the last seconds, as many as the loop took."""
    if not (work / "steps" / "throughput.json").exists():
        return None
    found, sampled = read_json(work / "steps" / "throughput.json"), samples(work / "steps" / "gpu-throughput.csv")
    for one in found.values():
        end = pd.Timestamp(one["ended"])
        own = sampled[sampled["time"].between(end - pd.Timedelta(seconds=one["loop_seconds"]), end)]
        one["gpu"] = use_of_gpu(own)
    return found


def collected(study: Study, work: Path, device: str) -> dict[str, Any]:
    """Everything that the steps left."""
    steps = work / "steps"
    folder = work / "results" / "studies" / study.name
    schedule = study.protocol.schedule
    left = {name: read_json(steps / f"{name}.json") if (steps / f"{name}.json").exists() else None for name in STEPS}
    found = {
        "kind": "gpu" if device == "cuda" else "trial without a GPU",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(device),
        "study": {
            "protocol": study.protocol.name,
            "dataset": study.dataset.name,
            "backbones": list(study.file.backbones),
            "seeds": list(study.file.seeds),
            "iterations": schedule.iterations,
            "batch_size": schedule.batch_size,
            "trainings_at_a_time": (left["train"] or {}).get("jobs"),
        },
        **accuracy(folder),
        "throughput": throughput(work),
        "parity": left["parity"],
        "resume": left["resume"],
        "gpu": {name: use_of_gpu(samples(steps / f"gpu-{name}.csv")) for name in STEPS},
    }
    wanted = {"parity": "parity", "throughput": "throughput", "train": "gaps", "resume": "resume"}
    return found | {"not_done": [step for step, key in wanted.items() if found[key] is None]}


def pack(study: Study, work: Path, out: Path) -> None:
    """Put the report, the study's tables and the logs beside the summary."""
    report = work / "reports" / f"{study.name}.html"
    if report.exists():
        shutil.copyfile(report, out / "report.html")
    kept = [*work.glob(f"results/studies/{study.name}/*"), *work.glob("results/logs/**/*.log"), *work.glob("steps/*")]
    kept += work.glob("results/runs/*/*.json*")
    with zipfile.ZipFile(out / "tables-and-logs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in kept if path.is_file()):
            archive.write(path, path.relative_to(work))


def main() -> None:
    """Write the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    arguments = parser.parse_args()
    study = load_study(arguments.study)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = collected(study, arguments.work, arguments.device)
    write_json(arguments.out / "summary.json", found)
    write_text(arguments.out / "summary.md", page(found))
    pack(study, arguments.work, arguments.out)
    print(f"{arguments.out / 'summary.md'}: not done: {', '.join(found['not_done']) or 'nothing'}")


if __name__ == "__main__":
    main()
