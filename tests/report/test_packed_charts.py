"""Charts are packed for the page, and nothing is lost by it; names of detectors in the cost charts."""

import json

import pandas as pd
from parsed_page import Page

from cascadebench.report.page import packed
from cascadebench.report.sections.methods.cost import named_points

AXIS = {"title": "IoU threshold", "values": [0.5, 0.6, 0.7], "grid": {"color": "grey", "width": 1.0, "cap": "round"}}
ROWS = [{"label": "a", "iou": place / 10, "value": place * 0.37, "seeds": 2} for place in range(9)]
ROWS += [{"label": "</script>", "iou": 1, "value": 1.0}, {"label": "b", "iou": 1.0, "value": True}, {}]
CHARTS = {
    "first": {"mark": "line", "axis": AXIS, "datasets": {"x": ROWS, "y": [{"zero": 0}]}},
    "second": {"mark": "line", "axis": AXIS, "datasets": {"x": ROWS, "none": []}},
    "third": {"layer": [{"axis": AXIS}, {"grid": AXIS["grid"]}, []], "datasets": {"z": [{"label": "c"}]}},
}


def test_unpacked_charts_are_those_that_were_packed() -> None:
    page = Page(f'<script type="application/json" id="chart-specifications">{in_a_page(packed(CHARTS))}</script>')
    # Compared as text: 1, 1.0 and True are equal otherwise.
    assert json.dumps(page.charts()) == json.dumps(CHARTS)


def in_a_page(value: dict) -> str:
    return json.dumps(value).replace("<", "\\u003c")


def test_what_repeats_is_written_once() -> None:
    text = json.dumps(packed(CHARTS))
    assert text.count("IoU threshold") == text.count("grey") == 1
    assert text.count(json.dumps([row["value"] for row in ROWS[:9]])[:-1]) == 1
    assert text.count('"a", 9, ') == 1


def test_a_chart_keeps_its_own_title_when_another_is_equal() -> None:
    charts = packed({"first": {"title": "A", **CHARTS["first"]}, "second": {"title": "A", **CHARTS["first"]}})["charts"]
    assert [chart["title"] for chart in charts.values()] == ["A", "A"]


def test_many_equal_panels_cost_little() -> None:
    one, many = ({f"panel-{number}": CHARTS["first"] for number in range(count)} for count in (1, 101))
    assert len(json.dumps(packed(many))) < len(json.dumps(packed(one))) + 100 * 200


def sides(*points: tuple[str, float, float]) -> dict[str, tuple[str, str]]:
    """Alignment of every name in a chart of costs from 0 to 10 and AP from 0 to 10."""
    data = pd.DataFrame(points, columns=["name", "cost", "value"]).assign(low=0.0, high=10.0)
    return {name: side[:2] for side, part in named_points(data, [0.0, 10.0]) for name in part["name"]}


def test_a_name_stands_to_the_right_of_its_point_where_there_is_room() -> None:
    assert sides(("alone", 2, 5)) == {"alone": ("left", "middle")}


def test_a_name_is_not_cut_off_at_the_edge() -> None:
    assert sides(("at the right edge", 9.8, 5)) == {"at the right edge": ("right", "middle")}


def test_a_name_covers_no_other_point() -> None:
    found = sides(("Decoupled R-CNN", 9.5, 5), ("Cascade R-CNN", 7, 5), ("Faster R-CNN", 0.5, 3))
    assert found["Decoupled R-CNN"] in (("right", "bottom"), ("right", "top"))


def test_a_detector_is_named_at_its_best_point() -> None:
    data = pd.DataFrame({"name": ["a", "a"], "cost": [1.0, 2], "value": [3.0, 4], "low": [2.0, 3], "high": [4.0, 5]})
    ((_, part),) = named_points(data, [0.0, 3.0])
    assert part["cost"].tolist() == [2]
