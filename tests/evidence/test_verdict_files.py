"""The tables of verdicts of a study that is not finished, and of one without claims."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_results import misses, study_of, write_clean_audit, write_run, write_truth

from cascadebench.core.errors import InputError
from cascadebench.diagnostics.recall import RECALL
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.holm import samples_needed
from cascadebench.evidence.study_measurements import measure_study
from cascadebench.evidence.verdict_files import TERMS, VERDICTS, enough_resamples, write_verdicts
from cascadebench.evidence.verdicts import study_verdicts
from cascadebench.metrics.coco.parquet import write_parquet
from cascadebench.metrics.coco.rules import AREAS, IOUS
from cascadebench.uncertainty.bootstrap import RESAMPLES
from cascadebench.uncertainty.resampled_study import ResampledStudy

CLAIMS = [
    "fscascade-narrows-gap", "last-stage-loses-ap50", "regression-raises-proposal-recall", "large-objects-gain-more",
    "fscascade-adds-few-parameters", "cascade-gains-ap", "third-stage-helps",
]  # fmt: skip
COUNT = 200


def read(results, name):
    """A table; reasons and notes as text."""
    return pd.read_csv(results / "studies" / "made_up" / f"{name}.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """In MMDetection FSCascade failed, in Detectron2 it has not begun and its baseline has lost its detections."""
    folder = tmp_path_factory.mktemp("partial")
    variants = [{"variant": name} for name in ("faster_rcnn", "cascade_rcnn", "fscascade")]
    study = study_of(folder, variants=variants, baseline="Faster R-CNN FPN", claims=CLAIMS)
    truth = write_truth(folder, study)
    for planned in study.runs:
        run = folder / "runs" / planned.run.id
        if planned.label != "FSCascade":
            write_run(folder, planned.run, truth, misses({"(3,3)": 0.4}))
        elif planned.run.framework == "mmdet":
            run.mkdir(parents=True)
            (run / "failed.json").write_text(json.dumps({"command": "train", "message": "no memory; none at all"}))
            (run / "cost.json").write_text(json.dumps({"trainable_parameters": 70_000_000}))
        if (planned.label, planned.run.framework) == ("Faster R-CNN FPN", "detectron2"):
            (run / "detections.parquet").unlink()
    write_clean_audit(folder, study)
    write_verdicts(ResampledStudy(study, folder, COUNT))
    return study, folder


@pytest.fixture(scope="module")
def verdicts(partial):
    """The verdicts by claim and framework."""
    return read(partial[1], "verdicts").set_index(["claim", "framework"])


def test_every_claim_has_a_verdict_in_both_frameworks(verdicts):
    assert len(verdicts) == 2 * len(CLAIMS)
    assert (verdicts.index.get_level_values("claim") == np.repeat(CLAIMS, 2)).all()
    assert ["question", *verdicts.index.names, *verdicts.columns.drop("question")] == [
        "question", "claim", "framework", *[name for name in VERDICTS if name not in ("question", "claim", "framework")]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "framework", "reasons"),
    [
        ("fscascade-narrows-gap", "mmdet", "fscascade: failed: train: no memory; none at all, seed 0"),
        ("fscascade-narrows-gap", "detectron2", "fscascade: not run, seed 0"),
        ("cascade-gains-ap", "detectron2", "faster_rcnn: detections.parquet is missing, seed 0"),
        ("fscascade-adds-few-parameters", "detectron2", "fscascade: trainable_parameters was not measured, seed 0"),
        ("third-stage-helps", "mmdet", "cascade_rcnn stages=2: not in the study, seed 0"),
        (
            "regression-raises-proposal-recall", "mmdet",
            "cascade_rcnn: proposal_AR1000 at stage 2 was not measured, seed 0; "
            "cascade_rcnn: proposal_AR1000 at stage 1 was not measured, seed 0",
        ),
        (
            "large-objects-gain-more", "mmdet",
            "cascade_rcnn: AP large at (3,1-3) last RoIs was not measured, seed 0; "
            "faster_rcnn: AP large at (1,1) was not measured, seed 0; "
            "cascade_rcnn: AP small at (3,1-3) last RoIs was not measured, seed 0; "
            "faster_rcnn: AP small at (1,1) was not measured, seed 0",
        ),
    ],
)  # fmt: skip
def test_a_hole_has_its_name(partial, verdicts, claim, framework, reasons):
    row = verdicts.loc[claim, framework]
    assert (row["verdict"], row["value"], row["reading"], row["samples"]) == ("not run", "", "", "")
    assert row["reasons"] == reasons
    terms = read(partial[1], "claim_terms")
    terms = terms[(terms["claim"] == claim) & (terms["framework"] == framework)]
    assert len(terms) == len(load_claims()[claim].terms)
    assert {f"{problem}, seed 0" for problem in terms["problem"] if problem} <= set(reasons.split("; ")) | {reasons}
    assert (terms["value"] == "").equals(terms["problem"] != "")


def test_what_is_there_is_judged(partial, verdicts):
    for framework in ("mmdet", "detectron2"):
        row = verdicts.loc["last-stage-loses-ap50", framework]
        assert (row["verdict"], row["samples"], row["seeds"]) == ("one seed", str(COUNT), 1)
    assert verdicts.loc["fscascade-adds-few-parameters", "mmdet"]["verdict"] == "supported", "counted before training"
    assert float(verdicts.loc["fscascade-adds-few-parameters", "mmdet"]["value"]) == 70 / 69
    samples = read(partial[1], "claim_samples")
    of_gap = [f"last-stage-loses-ap50 {framework} resnet50" for framework in ("mmdet", "detectron2")]
    assert list(samples) == ["sample", *of_gap, "cascade-gains-ap mmdet resnet50"]
    assert len(samples) == COUNT


def test_the_same_study_gives_the_same_bytes(partial):
    study, folder = partial
    names = ("verdicts", "claim_terms", "claim_samples")
    paths = [folder / "studies" / "made_up" / f"{name}.csv" for name in names]
    before = [path.read_bytes() for path in paths]
    write_verdicts(ResampledStudy(study, folder, COUNT))
    assert [path.read_bytes() for path in paths] == before


def test_a_test_stage_that_a_run_does_not_have_is_a_hole(partial):
    study, folder = partial
    claim = load_claims()["cascade-gains-ap"]
    terms = claim.quantity[0], claim.quantity[1].model_copy(update={"at": "(2,2)"})
    claim = claim.model_copy(update={"quantity": terms})
    runs = measure_study(ResampledStudy(study, folder, 20), [claim])
    (verdict, *_) = study_verdicts([claim], runs, None)
    assert verdict.reasons == ("faster_rcnn: AP at (2,2) was not measured, seed 0",)


def test_recall_of_proposals_is_read_from_its_file(partial):
    study, folder = partial
    cascade = next(one.run for one in study.runs if one.label == "Cascade R-CNN")
    rows = [(stage, area, limit, iou, 10 * stage + 40, 100)
            for stage in range(4) for area in AREAS for limit in (100, 1000) for iou in IOUS]  # fmt: skip
    path = folder / "runs" / cascade.id / "recall.parquet"
    write_parquet(path, pd.DataFrame(rows, columns=RECALL.names), RECALL)
    try:
        runs = measure_study(ResampledStudy(study, folder, 20), [load_claims()["regression-raises-proposal-recall"]])
        found = next(one for one in runs if one.run == cascade).others
        assert {(key.metric, key.at): value.point for key, value in found.items()} == {
            ("proposal_AR1000", "stage 1"): pytest.approx(0.4), ("proposal_AR1000", "stage 2"): pytest.approx(0.5)
        }  # fmt: skip
        assert {value.samples for value in found.values()} == {None}
    finally:
        path.unlink()


def test_without_an_audit_nothing_is_comparable(partial, tmp_path):
    study, folder = partial
    claims = [load_claims()["last-stage-loses-ap50"]]
    (verdict, *_) = study_verdicts(claims, measure_study(ResampledStudy(study, folder, 20), claims), None)
    assert (verdict.word, verdict.reasons) == ("not comparable", ("the controls were not audited",))


def test_a_study_without_claims_has_headers_alone(tmp_path):
    study = study_of(tmp_path, variants=[{"variant": "faster_rcnn"}], baseline="Faster R-CNN FPN")
    write_verdicts(ResampledStudy(study, tmp_path))
    folder = tmp_path / "studies" / "made_up"
    assert (folder / "verdicts.csv").read_text() == ",".join(VERDICTS) + "\n"
    assert (folder / "claim_terms.csv").read_text() == ",".join(TERMS) + "\n"
    assert (folder / "claim_samples.csv").read_text() == "sample\n"


def test_a_study_that_has_not_begun_needs_no_data(tmp_path):
    study = study_of(tmp_path, variants=[{"variant": "cascade_rcnn"}], baseline="Cascade R-CNN",
                     claims=["cascade-loses-low-iou"], frameworks=["mmdet"])  # fmt: skip
    write_verdicts(ResampledStudy(study, tmp_path))
    (row,) = read(tmp_path, "verdicts").to_dict("records")
    assert (row["verdict"], row["reasons"]) == ("not run", "cascade_rcnn: not run, seed 0")


def test_resamples_are_enough_for_every_question(partial):
    study, _ = partial
    assert enough_resamples(study) == max(RESAMPLES, samples_needed(4 * 2 * len(CLAIMS), 0.05))
    few = replace(study, file=study.file.model_copy(update={"claims": ("cascade-gains-ap",)}))
    assert enough_resamples(few) == RESAMPLES


def test_a_damaged_file_is_refused(partial):
    study, folder = partial
    path = folder / "runs" / study.runs[-1].run.id / "cost.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"trainable_parameters": "many"}')
    try:
        with pytest.raises(InputError, match=r"cost\.json: trainable_parameters: 'many' is no number"):
            write_verdicts(ResampledStudy(study, folder, 20))
    finally:
        path.unlink()
        path.parent.rmdir()
