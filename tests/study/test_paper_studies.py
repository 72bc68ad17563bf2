"""The studies of the three papers and the tiny form of any study."""

import json
import math
import re
from dataclasses import asdict, replace

import pytest
import yaml
from commands import snakemake
from small_studies import changed_study

from cascadebench.controls.audit import audit
from cascadebench.controls.definitions import CONTROLS
from cascadebench.core.configuration import CONFIG, PROJECT, read_yaml
from cascadebench.core.errors import InputError
from cascadebench.study import study_file
from cascadebench.study.study_file import load_protocol
from cascadebench.study_loading import load_study

CASCADE = "Cai and Vasconcelos, Cascade R-CNN, TPAMI 2019"
FSCASCADE = "Li, Yang and Zhang, Rethinking Classification and Localization for Cascade R-CNN, BMVC 2019"
DECOUPLED = "Wang et al., Decoupled R-CNN, TCSVT 2022"
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "X", "XI")
SOURCES = {
    **{f"cascade_table_{number}": f"Table {number} of {CASCADE}" for number in (1, 2, 3, 4, 7, 9, 10, 11)},
    **{f"cascade_fig_{number}": f"Fig. {number} of {CASCADE}" for number in (2, 4, 5, 7, 8, 9)},
    **{f"fscascade_fig_{number}": f"Fig. {number} of {FSCASCADE}" for number in (1, 3, 4, 5)},
    **{
        f"decoupled_table_{number}": f"Table {roman} of {DECOUPLED}"
        for number, roman in zip((1, 2, 3, 4, 5, 6, 7, 8, 10, 11), ROMAN, strict=True)
    },
}
FILES = sorted(path.stem for path in (CONFIG / "studies").glob("*.yaml"))


def test_every_table_and_figure_has_its_study():
    assert {name for name in FILES if re.match("(cascade|fscascade|decoupled)_(table|fig)_", name)} == set(SOURCES)


def test_the_page_counts_the_trainings():
    page = (PROJECT / "docs" / "paper-studies.md").read_text(encoding="utf-8")
    runs = [planned.run for name in SOURCES for planned in load_study(name).runs]
    told = re.search(r"All of them together are (\d+) trainings in the two frameworks, (\d+) of them with seed 0", page)
    assert told is not None
    counted = len({run.id for run in runs}), len({run.id for run in runs if run.seed == 0})
    assert tuple(map(int, told.groups())) == counted
    for name in SOURCES:
        of_study = len(load_study(name).file.seeds)
        assert re.search(rf"(?m)^\| `{name}` \| .* \| {of_study} \|$", page), name


@pytest.mark.parametrize("name", SOURCES)
def test_a_study_names_its_source_and_what_it_leaves_out(name):
    content = read_yaml(CONFIG / "studies" / f"{name}.yaml")
    description = content["description"]
    assert description.startswith(f"{SOURCES[name]}: ")
    assert re.search(r"\? Covered: .+\. .*Not covered: .+\.$", description)
    table = SOURCES[name].split(" of ")[0]
    assert f", {table}, " in content["title"]


@pytest.mark.parametrize("name", [name + form for name in SOURCES for form in ("", "-tiny")])
def test_a_study_loads_and_may_change_what_it_changes(name):
    """What the protocol expects of a run and not of the baseline's is its variant's treatment."""
    study = load_study(name)
    assert study.name == name
    runs = {(p.label, p.run.framework, p.run.backbone.name, p.run.seed): p for p in study.runs}
    assert len(runs) == len(study.runs) == len(set(study.run_ids))
    assert {p.run.framework for p in study.runs} == {"mmdet", "detectron2"}
    for planned in study.runs:
        run = planned.run
        baseline = runs[study.file.baseline, run.framework, run.backbone.name, run.seed].run
        expectations = {one.name: one.expected for one in CONTROLS.values() if one.expected is not None}
        values = {control: json.dumps(expected(run), allow_nan=False) for control, expected in expectations.items()}
        differing = {one for one, value in values.items() if value != json.dumps(expectations[one](baseline))}
        assert differing <= planned.treatment, planned.label


@pytest.mark.parametrize("name", FILES)
def test_the_tiny_form_keeps_the_variants_and_replaces_the_rest(name):
    whole, tiny = load_study(name), load_study(f"{name}-tiny")
    assert len(set(whole.run_ids)) == len(whole.runs) > 0
    assert {run.run.backbone.name for run in tiny.runs} == {"resnet18_narrow"}
    assert (tiny.dataset.name, tiny.protocol) == ("shapes", load_protocol("tiny", {}, "test"))
    assert tiny.file.title == f"{whole.file.title} (tiny form)"
    assert tiny.file.description.endswith(whole.file.description)
    assert "Its numbers say nothing about the paper" in tiny.file.description
    assert tiny.file.execution.gpus == 0
    assert tiny.file.seeds == (0,), "one training shows what a form without a finding is there to show"
    for key in ("frameworks", "variants", "baseline", "variant_folders"):
        assert getattr(tiny.file, key) == getattr(whole.file, key)


def test_the_tiny_form_of_an_unknown_study_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^study no_such-tiny: unknown name 'no_such'; in studies/ there are: .*tiny"):
        load_study("no_such-tiny")
    assert load_study("tiny").file.title == "Embedded study"


@pytest.fixture
def own_studies(tmp_path, monkeypatch):
    """Put two studies, and an override with some values more, in a folder of studies of one's own."""

    def write(**more):
        for name in ("mine", "yours", "yours-tiny"):
            override = {"protocol_override": {"rpn": {"nms_iou": 0.6}}, "backbones": ["resnet18_narrow"]}
            changed_study(tmp_path, name, **override)
        content = read_yaml(study_file.TINY_FORM) | more
        (tmp_path / "form.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.setattr(study_file, "STUDIES", tmp_path)
        monkeypatch.setattr(study_file, "TINY_FORM", tmp_path / "form.yaml")

    return write


def test_the_tiny_form_forgets_the_values_of_the_study_s_protocol_and_a_file_of_its_name_goes_before_it(own_studies):
    own_studies()
    names = ("mine", "mine-tiny", "yours-tiny")
    assert [load_study(name).protocol.rpn.nms_iou for name in names] == [0.6, 0.7, 0.6]


def test_a_wrong_key_of_the_tiny_form_is_one_line_that_names_its_file(own_studies):
    own_studies(colour="red")
    with pytest.raises(InputError, match=r"form\.yaml: colour: unknown key; allowed: name, title"):
        load_study("mine-tiny")


@pytest.mark.parametrize(
    ("one", "label", "other", "same"),
    [
        ("cascade_table_1", "FPN+", "cascade_table_4", "1 stage"),
        ("cascade_table_1", "FPN+", "cascade_fig_2", "u = 0.5"),
        ("cascade_table_1", "Cascade R-CNN", "cascade_table_3", "Both"),
        ("cascade_table_1", "Cascade R-CNN", "cascade_table_4", "3 stages"),
        ("cascade_table_1", "Iterative BBox", "cascade_fig_9", "Iterative BBox"),
        ("cascade_table_9", "Masks on the last stage (c)", "cascade_table_10", "Cascade Mask R-CNN"),
        ("cascade_table_9", "Mask R-CNN", "cascade_table_10", "Mask R-CNN"),
        ("cascade_table_7", "Cascade R-CNN", "fscascade_fig_1", "Cascade R-CNN"),
        ("cascade_table_7", "Faster R-CNN FPN", "coco_1x", "Faster R-CNN FPN"),
        ("fscascade_fig_3", "FSCascade", "fscascade_fig_5", "FSCascade"),
        ("decoupled_table_2", "FPN, shared", "decoupled_table_7", "FPN"),
        ("decoupled_table_2", "Decoupled R-CNN, unshared", "decoupled_table_3", "NMS_reg 0.7"),
        ("decoupled_table_3", "NMS_reg 0.85", "decoupled_table_4", "1 stage"),
        ("decoupled_table_3", "NMS_reg 0.85", "decoupled_table_7", "Decoupled R-CNN"),
        ("decoupled_table_4", "3 stages", "decoupled_table_5", "NMS_reg 0.85"),
        ("decoupled_table_4", "3 stages", "decoupled_table_6", "lambda 1"),
        ("decoupled_table_6", "lambda 0.5", "decoupled_table_7", "Decoupled R-CNN, cascaded regression"),
        ("decoupled_table_8", "Decoupled R-CNN", "decoupled_table_11", "Decoupled R-CNN"),
    ],
)
def test_rows_that_are_the_same_in_the_papers_are_one_run(one, label, other, same):
    ids = [
        {planned.run.id for planned in load_study(study).runs if (planned.label, planned.run.seed) == (wanted, 0)}
        for study, wanted in ((one, label), (other, same))
    ]
    assert ids[0] & ids[1]
    assert ids[0] <= ids[1] or ids[1] <= ids[0]


@pytest.mark.parametrize(
    ("protocol", "images", "epochs", "drops", "rate"),
    [("decoupled_voc", 16_551, 12, (9,), 0.005), ("decoupled_coco_1x", 118_287, 12, (8, 11), 0.01)],
)
def test_an_epoch_is_every_image_once(protocol, images, epochs, drops, rate):
    schedule = load_protocol(protocol, {}, "test").schedule
    epoch = math.ceil(images / 8)
    assert (schedule.batch_size, schedule.base_lr, schedule.iterations) == (8, rate, epochs * epoch)
    assert schedule.steps == tuple(drop * epoch for drop in drops)


@pytest.mark.parametrize(
    ("protocol", "rate", "step", "iterations", "batch_size", "rois"),
    [("cascade_fpn_plus", 0.005, 120_000, 180_000, 8, 256), ("cascade_voc", 0.002, 60_000, 90_000, 4, 256)],
)
def test_schedules_of_the_cascade_paper(protocol, rate, step, iterations, batch_size, rois):
    found = load_protocol(protocol, {}, "test")
    schedule = found.schedule
    assert schedule.learning_rate(0) == schedule.learning_rate(step - 1) == rate
    assert schedule.learning_rate(step) == schedule.learning_rate(iterations - 1) == pytest.approx(rate / 10)
    assert (schedule.iterations, schedule.batch_size, found.heads.rois_per_image) == (iterations, batch_size, rois)


@pytest.mark.parametrize("name", [name + form for name in SOURCES for form in ("", "-tiny")])
def test_snakemake_plans_a_study(name, tmp_path):
    """A dry run of the whole road, started as its user starts it."""
    done = snakemake(name, tmp_path, "--dry-run")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    assert text.count("rule train:") == len(load_study(name).runs)
    assert f"reports/{name}.html" in text
    assert f"results/studies/{name}/ap.csv" in text


def test_a_run_of_full_size_passes_the_audit_in_both_frameworks():
    """Cascade R-CNN on COCO, as it would train: 80 classes, the whole backbone, images of 800 pixels."""
    for framework in ("mmdet", "detectron2"):
        pytest.importorskip(framework)
    from adapters.commands import load_adapter

    whole = load_study("cascade_table_1")
    runs = tuple(one for one in whole.runs if (one.label, one.run.seed) == ("Cascade R-CNN", 0))
    assert len(runs) == 2
    study = replace(whole, file=whole.file.model_copy(update={"baseline": "Cascade R-CNN"}), runs=runs)
    readings = {}
    for one in runs:
        adapter = load_adapter(one.run.framework)
        readings[one.run.id] = [asdict(control) for control in adapter.read_controls(adapter.build(one.run))]
    assert audit(study, readings).of_kind("violation") == []
