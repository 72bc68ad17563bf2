"""Portable arithmetic gives the same bytes whatever kernels the processor, or the user's environment, would choose."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_images import few_shapes
from trainings import changed, run_of, words

from adapters import portable_arithmetic
from adapters.portable_arithmetic import PORTABLE, check_arithmetic, missing_instructions
from cascadebench.core.errors import InputError
from cascadebench.core.files import read_json
from cascadebench.study.run import Run

LOW = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
OUTSIDE = {
    "nothing": {},
    "the lowest": LOW,
    "the highest": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL", "MKL_CBWR": "AVX"},
}
"""What the user's environment says of kernels."""
KEPT = Path(__file__).with_name("portable_digests.json")
"""Digests of the training here, by kind of machine."""
needs_avx2 = pytest.mark.skipif(bool(missing_instructions()), reason="the processor has no AVX2")


def twenty_steps(framework: str, arithmetic: str = "portable") -> Run:
    """The embedded study's Faster R-CNN, trained for twenty steps."""
    run = changed(run_of(framework, "faster_rcnn"), schedule={"iterations": 20, "warmup_iterations": 2, "steps": (15,)})
    return run.model_copy(update={"protocol": run.protocol.model_copy(update={"arithmetic": arithmetic})})


def train_under(outside: dict[str, str], run: Run, out: Path, data: Path) -> dict:
    """Train by the command in an environment; returns its manifest."""
    environment = {name: value for name, value in os.environ.items() if name not in PORTABLE} | outside
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "adapters", *words(run, "train", out, data)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return read_json(out / "trained.json")


def kind_of_machine(manifest: dict) -> dict[str, str]:
    """Best instruction set, caches and versions: what kernels and blocks would be chosen by."""
    flags = Path("/proc/cpuinfo").read_text()
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    return {
        "capability": "AVX512" if "avx512f" in flags else "AVX2",
        "caches": " ".join(path.read_text().strip() for path in caches),
        "versions": " ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items())),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twelve images of the embedded dataset."""
    return few_shapes(tmp_path_factory.mktemp("few") / "shapes", 12, 4)


@needs_avx2
def test_the_same_bytes_under_every_capability(framework, data, tmp_path, request):
    run = twenty_steps(framework)
    found = {name: train_under(outside, run, tmp_path / name, data) for name, outside in OUTSIDE.items()}
    for name, manifest in found.items():
        made = manifest["hardware"]
        assert (made["portable"], made["cpu_capability"], made["mkl_cbwr"]) == (True, "AVX2", "COMPATIBLE"), name
    assert len({manifest["checkpoint_sha256"] for manifest in found.values()}) == 1
    native = train_under(LOW, twenty_steps(framework, "native"), tmp_path / "native", data)
    assert native["hardware"]["portable"] is False
    digest = found["nothing"]["checkpoint_sha256"]
    assert native["checkpoint_sha256"] != digest, "the digest does not tell one kernel from another"
    kind = kind_of_machine(found["nothing"]) | {"framework": framework}
    kept = [old for *seen, old in map(dict.values, read_json(KEPT)) if seen == list(kind.values())]
    if not kept:
        pytest.skip(f"not seen before, add it to {KEPT.name}: {json.dumps(kind | {'digest': digest})}")
    assert kept == [digest]


def test_a_processor_without_avx2_is_refused(tmp_path, monkeypatch):
    description = tmp_path / "cpuinfo"
    description.write_text("processor\t: 0\nflags\t\t: fpu sse4_2 avx fma\n")
    assert missing_instructions(description) == ["avx2"]
    monkeypatch.setattr(portable_arithmetic, "missing_instructions", lambda: ["avx2"])
    with pytest.raises(InputError, match="protocol tiny: arithmetic: portable: needs a processor with AVX2"):
        check_arithmetic([twenty_steps("mmdet")], "DEFAULT")
    check_arithmetic([twenty_steps("mmdet", "native")], "DEFAULT")


def test_another_machine_than_x86_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(portable_arithmetic.platform, "machine", lambda: "aarch64")
    assert missing_instructions(tmp_path / "none") == ["avx2", "fma"]
    description = tmp_path / "cpuinfo"
    description.write_text("Features\t: fp asimd\n")
    assert missing_instructions(description) == ["avx2", "fma"]


@needs_avx2
@pytest.mark.parametrize(
    ("change", "capability", "named"),
    [({"MKL_CBWR": "AVX2"}, "AVX2", "MKL_CBWR=AVX2"), ({}, "AVX512", "capability AVX512")],
)
def test_a_process_that_began_otherwise_is_refused(monkeypatch, change, capability, named):
    for name, value in (PORTABLE | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"is not in effect: torch was loaded with {named}"):
        check_arithmetic([twenty_steps("detectron2")], capability)


def test_arithmetic_is_part_of_the_identity():
    assert twenty_steps("mmdet").id != twenty_steps("mmdet", "native").id
