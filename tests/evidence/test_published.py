"""Published values: their form, and one line for every mistake."""

import pytest
import yaml
from refusals import refused

from cascadebench.core.configuration import CONFIG, read_model, read_yaml
from cascadebench.evidence.claims import load_claims
from cascadebench.evidence.published import FOLDER, PublishedFile, load_published
from cascadebench.evidence.schedules import find_schedule, load_schedules


def test_a_value_has_everything_that_it_belongs_to():
    value = load_published()["decoupled_rcnn.table8.cascaded_r50.GFLOPs"]
    assert (value.value, value.unit, value.measured) == (257.52, "GFLOPs", 257.52e9)
    assert (value.variant, value.options["stages"], value.test_stage) == ("decoupled_rcnn", 3, "(3,1)")
    assert value.options["regression"] == "class_specific"
    assert (value.dataset, value.split, value.framework, value.backbone) == ("coco2017", "val2017", "mmdet", "resnet50")
    assert (value.schedule.epochs, value.schedule.batch_size, value.place) == (12, 8, "Table VIII")
    assert "speed on one TITAN X" in value.differs


def test_a_row_goes_before_its_table_and_the_table_before_its_file():
    values = load_published()
    assert values["cascade_rcnn.table7.r101_gn.AP"].backbone == "resnet101_gn"
    assert values["cascade_rcnn.table7.r50.AP"].backbone == "resnet50_caffe"
    assert values["cascade_rcnn.table7.x101.AP"].backbone is None, "a null in a row goes before the file's word too"
    assert values["cascade_rcnn.table7.r50.AP"].framework == "detectron"
    assert values["cascade_rcnn.table1.cascade.AP"].framework == "caffe"
    assert values["cascade_rcnn.table10.x152.AP"].differs == ("enhanced training",)


def test_percent_becomes_a_fraction_and_no_cell_is_made_up():
    values = load_published()
    assert values["fscascade.abstract.fscascade.AP"].measured == 0.432
    assert values["model_zoo_readme.results.cascade_r50_1x.AP"].measured == 0.404
    assert values["mmdetection_zoo.cascade_rcnn.r50_1x.memory_GB"].measured == 4400
    assert values["mmdetection_zoo.cascade_rcnn.r50_1x.fps"].measured == 16.1
    assert "mmdetection_zoo.cascade_rcnn.r50_20e.fps" not in values


def test_every_backbone_and_dataset_is_the_project_s():
    for kind in ("backbone", "dataset"):
        known = {path.stem for path in (CONFIG / f"{kind}s").glob("*.yaml")}
        named = {getattr(value, kind) for value in load_published().values()} - {None}
        assert named - known == set()


def test_statements_name_claims_that_exist():
    files = [read_model(PublishedFile, path) for path in FOLDER.glob("*.yaml")]
    statements = {f"{file.name}.{one.id}": one for file in files for one in file.statements}
    assert len(statements) == 4
    assert {claim for statement in statements.values() for claim in statement.claims} <= set(load_claims())


def test_lengths_of_schedules():
    assert find_schedule("detectron_1x", "test").images == 1_440_000
    assert find_schedule("mmdetection_1x", "test").images == 1_407_192
    assert find_schedule("cascade_fpn_plus", "test").images == 1_440_000
    assert find_schedule("decoupled_voc", "test").images == 198_612
    assert find_schedule("unknown", "test").images is None
    used = {value.schedule.name for value in load_published().values()}
    used |= {claim.claimed_on.schedule for claim in load_claims().values()}
    assert used == set(load_schedules()), "every schedule is used"


def first_table(content):
    return content["tables"][0]


def first_row(content):
    return content["tables"][0]["rows"][0]


MISTAKES = [
    (lambda c: c.update(colour="red"), "colour: unknown key; allowed:"),
    (lambda c: c.update(name="other"), "name: 'other' must equal the file's name"),
    (lambda c: c.pop("dataset"), "table results, row cascade_r50_1x: dataset: missing in the row"),
    (lambda c: c.update(schedule="5x") or first_table(c).pop("schedule"), "schedule: unknown schedule '5x'"),
    (lambda c: first_table(c).update(columns=["mAP"]), "table results: columns: unknown metric 'mAP'; there are: AP"),
    (lambda c: first_table(c).update(variant="yolo"), "variant: unknown variant 'yolo'; there are: cascade_"),
    (lambda c: first_table(c).update(options={"depth": 3}), "options: cascade_rcnn has no option 'depth'"),
    (lambda c: first_table(c).update(variant=None, options={"stages": 3}), "options: there is no variant"),
    (lambda c: first_table(c).update(test_stage="3"), "test_stage: '3' is no test stage"),
    (lambda c: first_table(c).update(framework="yolo"), "tables.0.framework: input should be 'mmdet'"),
    (lambda c: first_row(c).update(values=[40.4, 1.0]), "row cascade_r50_1x: values: 2 values for 1 columns"),
    (lambda c: first_row(c).update(values=["40.4"]), "tables.0.rows.0.values.0: input should be a valid number"),
    (lambda c: first_table(c)["rows"].append(first_row(c)), "'model_zoo_readme.results.cascade_r50_1x.AP' is given"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line(tmp_path, change, message):
    content = read_yaml(FOLDER / "model_zoo_readme.yaml")
    change(content)
    (tmp_path / "model_zoo_readme.yaml").write_text(yaml.safe_dump(content))
    with refused(message, "model_zoo_readme.yaml"):
        load_published(tmp_path)


def test_no_file_repeats_a_name_of_another():
    names = [read_model(PublishedFile, path).name for path in FOLDER.glob("*.yaml")]
    assert len(names) == len(set(names)) == 5
