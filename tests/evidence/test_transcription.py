"""Every published number stands in the text that it was copied from, in the row and the order that its file says.

The texts belong to others and are not part of the project; where they are missing only the counts are checked.
"""

import re

import pytest

from cascadebench.core.configuration import PROJECT, read_model
from cascadebench.evidence.published import FOLDER, PublishedFile, load_published

TEXTS = PROJECT.parent / "shared" / "seeds"
FILES = {path.stem: read_model(PublishedFile, path) for path in sorted(FOLDER.glob("*.yaml"))}
ROWS = {
    "cascade_rcnn": {
        "section4": 1, "table1": 4, "table2": 6, "table3": 5, "table4": 5, "table6": 10, "table6_test_dev": 10,
        "table7": 12, "table8": 4, "table9": 4, "table10": 14, "table11": 8,
    },
    "decoupled_rcnn": {
        "table1": 5, "table2": 4, "table3": 6, "table4": 4, "table5": 2, "table6": 4, "table7": 6, "table8": 9,
        "table9": 37, "table10_cost": 2, "table10": 12, "table11": 8,
    },
    "fscascade": {"abstract": 1},
    "mmdetection_zoo": {"cascade_rcnn": 10, "cascade_mask_rcnn": 10, "pretrained": 7},
    "model_zoo_readme": {"results": 1},
}  # fmt: skip
TABLES = {f"{name}.{table.id}": (file, table) for name, file in FILES.items() for table in file.tables}
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")
ROW_STARTS = 60
"""A table's rows stand within so many lines of its name."""
MORE_ROWS = 3
"""A method is named once for up to so many further rows."""


def lines_of(name: str) -> list[str]:
    """Lines of a text; one whose tables were joined into one line is split before every row."""
    path = TEXTS / name
    if not path.exists():
        pytest.skip(f"the text {name} that the numbers were copied from is not in {TEXTS}")
    text = re.sub(r"\(https?://[^)]*\)", "", path.read_text(encoding="utf-8"))
    lines = text.splitlines()
    return re.split(r"(?=\| [RX]-\d+|### |## )", text) if len(lines) == 1 else lines


def is_subsequence(wanted: list[float], found: list[float]) -> bool:
    """Whether all of `wanted` occur in `found` in this order."""
    rest = iter(found)
    return all(value in rest for value in wanted)


def numbers(line: str) -> list[float]:
    return [float(text) for text in re.findall(r"\d+(?:\.\d+)?", line)]


def place_of(lines: list[str], place: str) -> range:
    """Lines in which a table's rows may stand."""
    named = [
        number for number, line in enumerate(lines) if re.search(rf"(^|#+ ){place}(:| |$)", line.strip(), re.IGNORECASE)
    ]
    if not named:
        return range(len(lines))
    return range(max(0, named[0] - ROW_STARTS), min(len(lines), named[0] + ROW_STARTS))


def find_row(row, lines: list[str], within: range) -> int | None:
    """Line that holds the row's values, with all its words there or in the rows above that name the method."""
    values = [value for value in row.values if value is not None]
    for number in within:
        near = " ".join(lines[max(0, number - MORE_ROWS) : number + 1])
        words = all(part.strip() in near for part in row.words.split("|"))
        if words and is_subsequence(values, numbers(lines[number])):
            return number
    return None


@pytest.mark.parametrize("name", TABLES)
def test_every_row_stands_in_the_text(name):
    file, table = TABLES[name]
    lines = lines_of(file.text)
    within = place_of(lines, table.place)
    first = within.start
    for row in table.rows:
        found = find_row(row, lines, range(first, within.stop))
        assert found is not None, f"{row.id}: {row.words}: {row.values} not found in order"
        # Rows stand in the order of the table. Several of ours may be cells of one printed row.
        first = found


def test_a_wrong_number_or_a_wrong_order_is_found():
    file, table = TABLES["cascade_rcnn.table3"]
    lines = lines_of(file.text)
    row = table.rows[1]
    within = place_of(lines, table.place)
    right = find_row(row, lines, within)
    assert right is not None
    for values in ((38.4, *row.values[1:]), tuple(reversed(row.values)), (*row.values, 1.0)):
        assert find_row(row.model_copy(update={"values": values}), lines, within) is None
    assert find_row(row, lines, range(right + 1, within.stop)) is None


@pytest.mark.parametrize("method", ["cascade", "decoupled"])
def test_the_cells_of_table_x_are_in_the_order_of_its_test_stages(method):
    file, table = TABLES["decoupled_rcnn.table10"]
    lines = lines_of(file.text)
    cells = {row.test_stage.removesuffix(" probabilities"): row.values[0] for row in table.rows if method in row.id}
    head = next(line for line in lines if "(1, 1)" in line and "\t" in line)
    assert [text.replace(" ", "") for text in head.split("\t") if text.startswith("(")] == list(cells)
    start = "Cascade R-CNN" if method == "cascade" else "Decoupled R-CNN"
    after = lines[lines.index(head) :]
    row = next(line for line in after if line.startswith(start))
    assert numbers(row)[-6:] == list(cells.values())


def test_no_table_has_lost_a_row():
    assert {name: {table.id: len(table.rows) for table in file.tables} for name, file in FILES.items()} == ROWS


def test_every_table_of_the_sources_is_there():
    of_cascade = {table.place for table in FILES["cascade_rcnn"].tables}
    assert {f"Table {number}" for number in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11)} < of_cascade
    of_decoupled = {table.place for table in FILES["decoupled_rcnn"].tables}
    assert of_decoupled == {f"Table {word}" for word in ROMAN}


def test_equal_cells_of_different_tables_agree():
    """Values that a source prints twice; one that was copied wrongly would differ."""
    values = load_published()
    for metric in ("AP", "AP50", "AP60", "AP70", "AP80", "AP90"):
        cascade = {
            values[f"cascade_rcnn.{row}.{metric}"].value
            for row in ("table1.cascade", "table2.stages1-3", "table3.both", "table4.stages3")
        }
        assert len(cascade) == 1
        decoupled = {
            values[f"decoupled_rcnn.{row}.{metric}"].value
            for row in ("table3.nms85", "table4.stages1", "table7.decoupled_r101")
        }
        assert len(decoupled) == 1
