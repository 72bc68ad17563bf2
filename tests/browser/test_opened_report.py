"""The report in a browser: offline, complete, in both colour schemes, on a phone, on paper, for every reader."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from made_results import HOSTILE, variant_of_tiny, write_results
from opened_pages import Open

from cascadebench.report import write_report
from cascadebench.report.sections import SECTIONS
from cascadebench.study.study import Study

DRAWN = "[data-drawn] .drawing svg"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def draw_all(page) -> int:
    """Have every chart drawn; returns how many there are."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    page.evaluate("drawAllCharts()")
    return page.locator("[data-chart]").count()


def test_every_section_stands_there_and_has_something_to_say(open_report: Open, report: Path) -> None:
    page = open_report(report)
    for name in (section.id for section in SECTIONS):
        assert len(page.locator(f"section[id='{name}']").inner_text()) > 60, name
    assert page.locator("main, header, nav, footer").count() == 4
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_charts_are_drawn_when_they_come_near_the_screen(open_report: Open, report: Path) -> None:
    page = open_report(report)
    chart = page.locator("[data-chart='gaps-by-iou-1']")
    chart.scroll_into_view_if_needed()
    chart.locator("svg").wait_for()
    last = page.locator("[data-chart]").last
    assert last.locator("svg").count() == 0
    assert draw_all(page) == page.locator(DRAWN).count() > 20
    for place in page.locator("[data-chart]").all():
        assert place.locator(".drawing svg path").count() > 5
        assert len(place.locator("[role=img]").get_attribute("aria-label")) > 40
    assert "could not be drawn" not in page.locator("main").inner_text()


def test_drawings_far_away_are_let_go_and_come_back(open_report: Open, report: Path) -> None:
    page = open_report(report)
    chart = page.locator("[data-chart='ap-by-iou-1']")
    chart.scroll_into_view_if_needed()
    chart.locator("svg").wait_for()
    height = chart.bounding_box()["height"]
    page.locator("footer").scroll_into_view_if_needed()
    chart.locator("svg").wait_for(state="detached")
    assert chart.bounding_box()["height"] == height
    chart.scroll_into_view_if_needed()
    chart.locator("svg").wait_for()
    assert chart.get_attribute("data-drawn") == "light"


def test_claims_on_a_phone_need_no_scrolling_aside(open_report: Open, report: Path) -> None:
    page = open_report(report, **PHONE)
    table = page.locator("#claims-1")
    for cell in table.locator("tbody td").all():
        box = cell.bounding_box()
        assert box["x"] + box["width"] <= 390
    assert page.locator(".scroll:has(#claims-1)").evaluate("(one) => one.scrollWidth - one.clientWidth") == 0
    page.locator(".strip a").last.click()
    assert page.locator("#claim-five").bounding_box()["y"] < 844


def colours(page) -> tuple[str, str]:
    return page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(
        "document.querySelector('.drawing svg').style.backgroundColor"
    )


@pytest.mark.parametrize(("scheme", "other"), [("dark", "light"), ("light", "dark")])
def test_colours_follow_the_system_until_they_are_chosen(open_report: Open, report: Path, scheme, other) -> None:
    page = open_report(report, color_scheme=scheme)
    backgrounds = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    page.locator("[data-chart]").first.scroll_into_view_if_needed()
    page.locator(f"[data-chart='ap-by-iou-1'][data-drawn={scheme}]").wait_for()
    assert colours(page) == (backgrounds[scheme],) * 2
    page.get_by_label("Colours").select_option(other)
    page.locator("[data-chart]").first.scroll_into_view_if_needed()
    page.locator(f"[data-chart='ap-by-iou-1'][data-drawn={other}]").wait_for()
    assert colours(page) == (backgrounds[other],) * 2


def test_nothing_is_wider_than_a_phone(open_report: Open, report: Path) -> None:
    page = open_report(report, **PHONE)
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("name", ["report", "hostile_report"])
@pytest.mark.parametrize("settings", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_no_serious_violation_of_accessibility(
    open_report: Open, request: pytest.FixtureRequest, name: str, settings: dict
) -> None:
    page = open_report(request.getfixturevalue(name), **settings)
    draw_all(page)
    if name == "report":
        assert page.locator(".verdicts .strip li").count() > 5
        assert page.locator(".example-view").count() > 5
        assert page.locator("#error-values").count() == 1
    # A drawing is one picture with a name: what is inside it is nothing that a reader meets alone.
    parts, options = {"exclude": [[".drawing svg"]]}, {"resultTypes": ["violations"]}
    found = [
        (one["id"], [node["target"] for node in one["nodes"]][:3])
        for one in Axe().run(page, context=parts, options=options).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert found == []


def test_paper_has_all_charts_in_light_and_no_buttons(open_report: Open, report: Path) -> None:
    page = open_report(report, color_scheme="dark")
    page.evaluate(
        "addEventListener('afterprint',"
        " () => (window.printed = document.querySelectorAll('[data-drawn=light]').length))"
    )
    paper = page.pdf()
    assert paper.startswith(b"%PDF")
    assert len(paper) > 200_000
    assert page.evaluate("printed") == page.locator("[data-chart]").count()
    page.emulate_media(media="print")
    assert not page.locator(".tools:visible, nav:visible, .choices:visible, select:visible").all()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_names_that_look_like_markup_are_shown_and_not_run(open_report: Open, hostile_report: Path) -> None:
    page = open_report(hostile_report)
    draw_all(page)
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.get_by_text("<script>alert(1)</script>", exact=True).first.is_visible()
    assert HOSTILE in page.locator("[data-chart='ap-by-iou-1']").text_content()
    assert page.locator("[data-chart] script, table script").count() == 0


def test_a_study_with_holes_names_them(open_report: Open, tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path)
    results = write_results(tmp_path / "results", study, failed=(study.run_ids[-1],))
    for name in ("gaps.csv", "ap_per_class.csv", "audit.json"):
        (results / "studies" / study.name / name).unlink()
    page = opened(open_report, study, results)
    text = page.locator("main").inner_text()
    for sentence in ("1 failed", "Failed: Cascade R-CNN, Detectron2, seed 0", "gaps.csv is missing.", "No gap curves:",
                     "No values per category:", "Not audited:", "Not recorded in any run:"):  # fmt: skip
        assert sentence in text, sentence


def test_a_study_without_stages_or_results_is_still_a_page(open_report: Open, tmp_path: Path) -> None:
    study = variant_of_tiny(tmp_path, variants=[{"variant": "faster_rcnn"}])
    page = opened(open_report, study, tmp_path / "nothing")
    text = page.locator("main").inner_text()
    assert "No detector with several test stages has results." in text
    assert "0 of 2 runs evaluated" in text
    for name in (section.id for section in SECTIONS):
        assert page.locator(f"section[id='{name}']").inner_text().strip(), name


def opened(open_report: Open, study: Study, results: Path):
    """The report of a study, opened, with all its charts drawn."""
    output = results.with_name("report.html")
    write_report(study, results, output)
    page = open_report(output)
    draw_all(page)
    return page


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_moves_when_charts_are_drawn(open_report: Open, report: Path, width: int) -> None:
    page = open_report(report, viewport={"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    page.evaluate("document.querySelectorAll('.drawing').forEach((one) => one.replaceChildren())")
    places = """[...document.querySelectorAll('.drawing, .tools button')].map((one) => {
        const { x, y, height } = one.getBoundingClientRect();
        return [x, y + scrollY, height];
    })"""
    empty = page.evaluate(places)
    page.evaluate("drawAllCharts()")
    assert page.locator(".drawing svg").count() > 20
    assert page.evaluate(places) == empty
