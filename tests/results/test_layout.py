"""The names below ``results/`` have one owner, and a run's folder tells how far it has come."""

import ast
import re
from pathlib import Path

import pytest

from cascadebench.core.configuration import PROJECT
from cascadebench.results import layout
from cascadebench.results.layout import (
    CheckpointFolder,
    DatasetFolder,
    FileName,
    ResultsFolder,
    RunFolder,
    StudyFolder,
    report_of,
)
from cascadebench.results.run_state import progress, run_state

OWNER = PROJECT / "cascadebench" / "results" / "layout.py"
MODULES = [path for folder in ("cascadebench", "adapters") for path in (PROJECT / folder).rglob("*.py")]
RULES = [PROJECT / "Snakefile", *sorted((PROJECT / "workflows" / "rules").glob("*.smk"))]


def file_names() -> set[str]:
    """Names of files that some folder of the layout has."""
    attributes = (vars(folder).values() for folder in vars(layout).values() if isinstance(folder, type))
    names = {entry.name for entries in attributes for entry in entries if isinstance(entry, FileName)}
    return {Path(name).name for name in names if Path(name).suffix}


def strings(source: str) -> set[str]:
    """Every string of a module that is no docstring, and the constant parts of f-strings."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documentation)
    return {node.value for node in constants if isinstance(node.value, str)}


def spelled(source: str) -> set[str]:
    """Names of the layout that a module spells, alone or as a part of a path."""
    return {part for text in strings(source) for part in text.split("/")} & file_names()


def test_no_other_module_spells_a_name_of_the_layout():
    assert len(MODULES) > 100
    found = {str(path.relative_to(PROJECT)): spelled(path.read_text()) for path in MODULES if path != OWNER}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source", ['folder / "ap.parquet"', 'f"{folder}/checkpoints/last.pt"', 'folder.glob("*/run.yaml")']
)
def test_such_a_name_is_seen(source):
    assert spelled(source)


def test_a_docstring_or_a_sentence_spells_nothing():
    assert not spelled('"""Write ``ap.parquet``."""\nraise ValueError("it is not that of trained.json: delete it")')


def test_what_the_rules_make_are_names_of_the_layout():
    """Snakemake's patterns stay literal; each file that they name is one that the layout knows."""
    names = file_names()
    texts = [path.read_text() for path in RULES]
    written = {name for text in texts for name in re.findall(r"[\w.]+\.(?:json|parquet|csv|yaml|jsonl)\b", text)}
    written -= {"tiny.yaml", "environment.yml"}
    assert written
    assert written <= names


def test_the_documentation_has_every_name():
    text = (PROJECT / "docs" / "file-formats.md").read_text()
    assert {name for name in file_names() if name not in text} == set()


def test_every_folder_lies_where_it_always_did():
    results = ResultsFolder(Path("results"))
    assert results.run("r").ap == Path("results/runs/r/ap.parquet")
    assert results.run("r").last_checkpoint == CheckpointFolder(results.run("r").checkpoints).last
    assert results.run("r").proposal_swap("gt").ap == Path("results/runs/r/proposals_of/gt/ap.parquet")
    assert results.run("r").beside("s").trained == Path("results/runs/s/trained.json")
    assert results.dataset("d").split("val") == results.dataset("d").val == Path("results/datasets/d/val.json")
    assert results.imported("i").record == Path("results/imported/i/imported.json")
    assert results.study("s").table("gaps") == results.study("s").gaps == Path("results/studies/s/gaps.csv")
    assert report_of("s") == Path("reports/s.html")
    assert (RunFolder.ap, StudyFolder.ap, DatasetFolder.lock) == ("ap.parquet", "ap.csv", "lock.json")


def test_only_what_is_there_is_listed(tmp_path):
    results = ResultsFolder(tmp_path)
    assert (results.runs(), results.run("r").proposal_swaps()) == ([], [])
    for run_id in "ba":
        results.run(run_id).path.mkdir(parents=True)
        results.run(run_id).run.touch()
    (tmp_path / "runs" / "c").mkdir()
    results.run("a").proposal_swap("gt").path.mkdir(parents=True)
    assert [folder.path.name for folder in results.runs()] == ["a", "b"]
    assert [folder.path.name for folder in results.run("a").proposal_swaps()] == ["gt"]


def test_states_in_the_order_of_a_run(tmp_path):
    assert run_state(tmp_path) == ("not run", "")
    (tmp_path / "run.yaml").touch()
    assert run_state(tmp_path) == ("not run", "")
    (tmp_path / "controls.json").touch()
    assert run_state(tmp_path) == ("inspected", "")
    (tmp_path / "checkpoints").mkdir()
    assert run_state(tmp_path) == ("started", "training has begun and is not finished; run again to resume")
    (tmp_path / "trained.json").touch()
    assert run_state(tmp_path) == ("trained", "")
    (tmp_path / "detections.parquet").touch()
    assert run_state(tmp_path) == ("predicted", "")
    (tmp_path / "failed.json").write_text('{"command": "predict", "message": "out of memory"}')
    assert run_state(tmp_path) == ("failed", "predict: out of memory")
    (tmp_path / "failed.json").write_text("{")
    assert run_state(tmp_path)[0] == "failed"
    (tmp_path / "ap.parquet").touch()
    state, detail = run_state(tmp_path)  # what is there stands, and what failed beside it is told
    assert state == "evaluated"
    assert "failed.json" in detail
    (tmp_path / "failed.json").unlink()
    assert run_state(tmp_path) == ("evaluated", "")


def test_detections_of_a_training_whose_manifest_is_gone_do_not_count(tmp_path):
    for name in ("controls.json", "detections.parquet"):
        (tmp_path / name).touch()
    assert progress(RunFolder(tmp_path)) == "inspected"
    (tmp_path / "trained.json").touch()
    assert progress(RunFolder(tmp_path)) == "predicted"
