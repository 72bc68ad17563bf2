"""Charts are packed for the page, and nothing is lost by it."""

import json

from parsed_page import Page

from cascadebench.report.page import packed

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
