"""Files of annotations, detections and proposals: what is written is read back, and what is malformed is refused."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascadebench.core.errors import InputError
from cascadebench.metrics.coco.detections import (
    PROPOSALS,
    read_coco_results,
    read_detections,
    write_detections,
    write_proposals,
)
from cascadebench.metrics.coco.ground_truth import read_ground_truth
from cascadebench.metrics.coco.parquet import read_parquet


def columns(rows=3):
    """Detections as an adapter gives them: arrays, some of another width than the file's."""
    numbers = np.arange(rows)
    return {
        "image_id": numbers[::-1].copy(),
        "test_stage": np.array(["(3,1-3) logits", "(1,1)", "(1,1)", "(2,1)"][:rows], dtype=object),
        "category_id": numbers + 1,
        "score": numbers / 7,
        "x": numbers + 0.25,
        "y": -numbers,
        "w": np.full(rows, 2.5, dtype=np.float32),
        "h": numbers,
    }


def as_kinds(numbers):
    """The columns as they are read, where scores and boxes have these numbers."""
    kinds = {"image_id": "int64", "test_stage": "category", "category_id": "int32"}
    kinds |= dict.fromkeys(["score", "x", "y", "w", "h"], numbers)
    return pd.DataFrame(columns()).astype(kinds)[list(kinds)]


@pytest.fixture
def path(tmp_path):
    """A file of detections."""
    write_detections(tmp_path / "detections.parquet", columns())
    return tmp_path / "detections.parquet"


def test_detections_are_read_back_in_their_order(tmp_path):
    path = tmp_path / "new" / "detections.parquet"
    write_detections(path, columns())
    pd.testing.assert_frame_equal(read_detections(path), as_kinds("float32"), check_categorical=False)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    write_detections(tmp_path / "a.parquet", columns())
    write_detections(
        tmp_path / "b.parquet", pd.DataFrame(columns(), index=[5, 6, 7]).astype({"test_stage": "category"})
    )
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_storage(path):
    group = pq.ParquetFile(path).metadata.row_group(0)
    stored = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in stored.values()} == {"ZSTD"}
    assert all("BYTE_STREAM_SPLIT" in stored[name].encodings for name in ("score", "x", "y", "w", "h"))
    assert "PLAIN_DICTIONARY" in stored["test_stage"].encodings or "RLE_DICTIONARY" in stored["test_stage"].encodings


def test_no_detections(tmp_path):
    path = tmp_path / "detections.parquet"
    write_detections(path, {name: values[:0] for name, values in columns().items()})
    assert len(read_detections(path)) == 0


def test_proposals(tmp_path):
    path = tmp_path / "proposals.parquet"
    write_proposals(path, columns())
    rows = read_parquet(path, PROPOSALS)
    assert list(rows) == ["image_id", "score", "x", "y", "w", "h"]
    assert rows["image_id"].tolist() == [2, 1, 0]


def test_files_that_pandas_wrote_are_read(path):
    expected = read_detections(path)
    expected.astype({"test_stage": "str"}).assign(note=1).set_index("score").to_parquet(path)
    pd.testing.assert_frame_equal(read_detections(path), expected, check_categorical=False)


def test_other_numbers_are_read_where_none_changes(tmp_path):
    """As pandas writes them: every whole number int64, every other float64."""
    path = tmp_path / "detections.parquet"
    as_pandas = pd.DataFrame(columns()).astype({"image_id": "int32", "x": "float32"})
    assert (as_pandas["category_id"].dtype, as_pandas["y"].dtype) == ("int64", "int64")
    as_pandas.to_parquet(path)
    pd.testing.assert_frame_equal(read_detections(path), as_kinds("float64"), check_categorical=False)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("category_id", [1, 2**31, 3], "'category_id' is int64; int32 is expected: .*2147483648 not in range"),
        ("image_id", [1, 2.5, 3], "'image_id' is double; int64 is expected: .*2.5"),
        ("image_id", [True, False, True], "'image_id' is bool; int64 is expected$"),
        ("score", ["a", "b", "c"], "'score' is string; float is expected$"),
    ],
)
def test_numbers_that_would_change_are_refused(path, name, values, message):
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.names.index(name), name, pa.array(values)), path)
    with pytest.raises(InputError, match=f"column {message}"):
        read_detections(path)


def test_row_groups_with_their_own_dictionaries(path):
    table, expected = pq.read_table(path), read_detections(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        for row in range(3):
            writer.write_table(pa.Table.from_pandas(table.slice(row, 1).to_pandas(), table.schema))
    pd.testing.assert_frame_equal(read_detections(path), expected, check_categorical=False)


def test_the_first_bad_row_is_named_whatever_its_column(tmp_path):
    bad = columns() | {"x": np.array([0, 0, np.inf]), "w": np.array([1, -1.5, 1]), "h": np.array([1, np.nan, 1])}
    with pytest.raises(ValueError, match=r"row 1 \(counted from 0\): w is -1.5; at least 0 is expected"):
        write_detections(tmp_path / "detections.parquet", bad)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("score", np.nan, r"row 1 \(counted from 0\): score is nan; a finite number is expected"),
        ("h", np.inf, r"row 1 \(counted from 0\): h is inf; a finite number is expected"),
        ("w", -1, r"row 1 \(counted from 0\): w is -1.0; at least 0 is expected"),
    ],
)
def test_bad_rows_are_neither_written_nor_read(path, tmp_path, name, value, message):
    schema = pq.read_schema(path)
    bad = columns()
    bad[name] = np.array([0.5, value, value])
    with pytest.raises(ValueError, match=message):
        write_detections(tmp_path / "never.parquet", bad)
    assert list(tmp_path.iterdir()) == [path]
    pq.write_table(pa.table(bad).select(schema.names).cast(schema), path)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        read_detections(path)


def test_columns_of_different_length_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="length"):
        write_detections(tmp_path / "detections.parquet", columns() | {"score": np.zeros(2)})


def test_a_missing_test_stage_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="null"):
        write_detections(tmp_path / "detections.parquet", columns() | {"test_stage": ["(1,1)", None, "(1,1)"]})
    assert not list(tmp_path.iterdir())


def test_malformed_parquet(tmp_path):
    path = tmp_path / "detections.parquet"
    with pytest.raises(InputError, match="no such file"):
        read_detections(path)
    path.write_bytes(b"PAR1, but no more")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_detections(path)
    write_proposals(path, columns())
    with pytest.raises(InputError, match="column 'test_stage' is missing; columns: image_id, test_stage"):
        read_detections(path)
    pq.write_table(pa.table(columns() | {"category_id": ["a", "b", "c"]}), path)
    with pytest.raises(InputError, match="column 'category_id' is string; int32 is expected"):
        read_detections(path)
    names, arrays = list(columns()), list(pa.table(columns()).columns)
    pq.write_table(pa.Table.from_arrays([*arrays, arrays[3]], names=[*names, "score"]), path)
    with pytest.raises(InputError, match="column 'score' is there twice; columns: image_id, test_stage"):
        read_detections(path)
    pq.write_table(pa.table(columns() | {"image_id": pa.array([1, None, 2])}), path)
    with pytest.raises(InputError, match=r"row 1 \(counted from 0\): image_id is missing"):
        read_detections(path)


RESULT = {"image_id": 3, "category_id": 1, "bbox": [1, 2.5, 3, 4], "score": 0.1}


def write_results(folder, value):
    path = folder / "results.json"
    path.write_text(json.dumps(value))
    return path


def test_coco_results(tmp_path):
    rows = read_coco_results(write_results(tmp_path, [RESULT, RESULT | {"score": 1, "segmentation": []}]))
    assert rows["score"].tolist() == [0.1, 1.0], "in double precision"
    assert (
        rows[["image_id", "test_stage", "category_id", "x", "y", "w", "h"]].values.tolist()
        == [[3, "", 1, 1, 2.5, 3, 4]] * 2
    )
    assert len(read_coco_results(write_results(tmp_path, []))) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"annotations": []}, r" a list is expected, found "),
        ([RESULT, []], r" \[1\]: an object is expected"),
        ([RESULT, {"image_id": 3}], r" \[1\]: the key 'bbox' is missing"),
        ([RESULT, RESULT | {"score": None}], r" \[1\]\.score: a number is expected, found null"),
        ([RESULT, RESULT | {"score": float("nan")}], r" \[1\]\.score: a finite number is expected, found NaN"),
        ([RESULT, RESULT | {"bbox": [1, 2, -3, 4]}], r" \[1\]\.bbox: finite numbers with width and height at least 0"),
        ([RESULT, RESULT | {"image_id": 3.5}], r" \[1\]\.image_id: a whole number is expected, found 3.5"),
    ],
)
def test_malformed_coco_results(tmp_path, value, message):
    path = write_results(tmp_path, value)
    with pytest.raises(InputError, match=f"^{path}:{message}"):
        read_coco_results(path)


def test_masks_are_a_further_column_that_box_detectors_do_not_have(tmp_path):
    box, mask, none = (tmp_path / name for name in ("box.parquet", "mask.parquet", "none.parquet"))
    write_detections(box, columns())
    assert "segmentation" not in pq.read_schema(box).names
    assert "segmentation" not in read_detections(box)
    write_detections(mask, columns() | {"segmentation": np.array([None, "04", "PPYo1"], dtype=object)})
    found = read_detections(mask)["segmentation"]
    assert found.isna().tolist() == [True, False, False] and found[1:].tolist() == ["04", "PPYo1"]
    write_detections(none, columns() | {"segmentation": np.array([None] * 3, dtype=object)})
    assert read_detections(none)["segmentation"].isna().all()
    pd.testing.assert_frame_equal(read_detections(mask).drop(columns="segmentation"), read_detections(box))


def test_masks_of_another_type_are_refused(path):
    pq.write_table(pq.read_table(path).append_column("segmentation", pa.array([1, 2, 3])), path)
    with pytest.raises(InputError, match="column 'segmentation' is int64; string is expected"):
        read_detections(path)


def test_results_with_masks_need_no_boxes(tmp_path):
    mask = {"size": [2, 3], "counts": "123"}
    entry = {key: RESULT[key] for key in ("image_id", "category_id", "score")} | {"segmentation": mask}
    assert read_coco_results(write_results(tmp_path, [entry]), "segm")["segmentation"].tolist() == [mask]
    with pytest.raises(InputError, match=r"\[0\]: the key 'segmentation' is missing"):
        read_coco_results(write_results(tmp_path, [RESULT]), "segm")
    with pytest.raises(InputError, match=r"\[0\]\.segmentation: run lengths, .* expected, found \[\[1"):
        read_coco_results(write_results(tmp_path, [RESULT | {"segmentation": [[1, 2]]}]), "segm")


def annotations(**change):
    """Two images, two categories, two objects; `change` replaces keys of the second object."""
    first = {"id": 4, "image_id": 2, "category_id": 9, "bbox": [0, 0, 3, 5], "segmentation": [[0, 0, 3, 0, 3, 5]]}
    return {
        "images": [{"id": 2, "file_name": "b.png"}, {"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 9, "name": "ring"}, {"id": 5, "name": "disc"}],
        "annotations": [first, first | {"id": 1, "iscrowd": 1, "area": 7.5} | change],
    }


def test_sorted_ids_and_completed_annotations(tmp_path):
    path = tmp_path / "val.json"
    path.write_text(json.dumps(annotations()))
    truth = read_ground_truth(path)
    assert truth.source == str(path)
    assert truth.image_ids.tolist() == [1, 2]
    assert (truth.category_ids.tolist(), truth.category_names) == ([5, 9], ("disc", "ring"))
    assert truth.boxes["area"].tolist() == [15, 7.5]
    assert truth.boxes["iscrowd"].tolist() == [0, 1]
    assert truth.boxes[["x", "y", "w", "h"]].to_numpy().tolist() == [[0, 0, 3, 5]] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 3}, r"annotations\[1\]\.image_id: 3 is not among the images"),
        ({"category_id": 3}, r"annotations\[1\]\.category_id: 3 is not among the categories"),
        ({"image_id": "2"}, r'annotations\[1\]\.image_id: a whole number is expected, found "2"'),
        ({"image_id": True}, r"annotations\[1\]\.image_id: a whole number is expected, found true"),
        ({"image_id": 2**70}, r"annotations\[1\]\.image_id: 1180591620717411303424 does not fit"),
        ({"bbox": [0, 0, 3]}, r"annotations\[1\]\.bbox: \[x, y, width, height\] is expected, found \[0, 0, 3\]"),
        ({"bbox": [0, 0, 3, "5"]}, r"annotations\[1\]\.bbox: \[x, y, width, height\] is expected"),
        ({"bbox": {"x": 0}}, r"annotations\[1\]\.bbox: \[x, y, width, height\] is expected"),
        ({"bbox": [0, 0, -3, 5]}, r"annotations\[1\]\.bbox: finite numbers with width and height at least 0"),
        ({"bbox": [0, 0, 3, float("inf")]}, r"annotations\[1\]\.bbox: finite numbers"),
        ({"bbox": [0, 0, 3, 10**400]}, r"annotations: bbox: a whole number is too large"),
        ({"iscrowd": 2}, r"annotations\[1\]\.iscrowd: 0 or 1 is expected, found 2"),
        ({"area": -1.0}, r"annotations\[1\]\.area: at least 0 is expected, found -1"),
        ({"area": None}, r"annotations\[1\]\.area: a number is expected, found null"),
        ({"id": 4}, r"annotations: the id 4 is given twice"),
    ],
)
def test_bad_annotation(change, message):
    with pytest.raises(InputError, match="^ground truth: " + message):
        read_ground_truth(annotations(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, r"images: a list is expected, found null"),
        ({"images": [{"id": 2}, {"id": 2}]}, r"images\[1\]\.id: 2 is given twice"),
        ({"images": [{"id": 2}, {"file_name": "a"}]}, r"images\[1\]: the key 'id' is missing"),
        ({"annotations": [{}, 3]}, r"annotations\[1\]: an object is expected, found 3"),
        (
            {"categories": [{"id": 9, "name": "a"}, {"id": 5, "name": "a"}]},
            r'categories\[1\]\.name: "a" is given twice',
        ),
        ({"categories": [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}]}, r"categories\[1\]\.id: 9 is given twice"),
        ({"categories": [{"id": 9, "name": "all"}]}, r"categories\[0\]\.name: 'all' stands for the mean"),
    ],
)
def test_bad_list(change, message):
    with pytest.raises(InputError, match="^ground truth: " + message):
        read_ground_truth(annotations() | change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "COCO annotations are an object"),
        ('{"images": []}', "the key 'categories' is missing"),
        ("{", "not valid JSON"),
    ],
)
def test_bad_file(tmp_path, text, message):
    path = tmp_path / "val.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        read_ground_truth(path)
