"""What a reader can do in the report: sort, filter, choose and save."""

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from opened_pages import Open
from parsed_page import Page as Parsed
from PIL import Image
from playwright.sync_api import Locator, Page

MINUS, THIN_SPACE = "−", "\u202f"


@pytest.fixture
def page(open_report: Open, report: Path) -> Page:
    """The report, with everything unfolded."""
    opened = open_report(report)
    opened.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    return opened


@pytest.fixture(scope="session")
def parsed(report: Path) -> Parsed:
    """The report as it is written, without a browser."""
    return Parsed(report.read_text(encoding="utf-8"))


def saved(page: Page, button: Locator) -> tuple[str, bytes]:
    """Name and content of the file that a button saves."""
    page.wait_for_timeout(150)  # Chromium drops what is more than ten downloads of a page in a second
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def tool(page: Page, table: str, name: str) -> Locator:
    return page.get_by_role("button", name=f"{name} of the table {table}", exact=True)


def column(page: Page, table: str, place: int) -> list[list[str]]:
    """Texts of a column as they stand, group by group; without the lines under the values."""
    script = """([id, place]) => [...document.getElementById(id).tBodies].map((body) =>
        [...body.querySelectorAll('tr:not(.group)')].filter((row) => !row.hidden)
            .map((row) => row.cells[place].querySelector('span').textContent))"""
    return page.evaluate(script, [table, place])


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace(MINUS, "-")) for text in texts if text != "–"]


def test_a_column_sorts_both_ways_within_its_groups_and_goes_back(page: Page) -> None:
    before = column(page, "headline", 1)
    head = page.locator("#headline thead tr").nth(1).locator("th").first
    button = head.get_by_role("button")
    orders = []
    for order in ("descending", "ascending", None):
        button.focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        orders.append(column(page, "headline", 1))
    down, up, back = orders
    assert len(down) == 4
    assert [numbers(group) for group in down] == [sorted(numbers(group), reverse=True) for group in before]
    assert [numbers(group) for group in up] == [sorted(numbers(group)) for group in before]
    assert back == before
    assert down != up


def test_missing_values_are_sorted_last(page: Page) -> None:
    for _ in range(2):
        page.locator("#stage-values").get_by_role("button", name="Outliers, %").click()
        for group in column(page, "stage-values", 6):
            missing = [text == "–" for text in group]
            assert missing == sorted(missing)


def test_rows_can_be_filtered_and_what_is_saved_are_those_shown(page: Page) -> None:
    table = page.locator("#stages")
    rows = table.locator("tbody tr:not(.group)")
    assert rows.count() > 30
    page.locator(".tools:has(+ .scroll #stages)").get_by_label("Filter rows").fill("(3,3)")
    shown = [row for row in rows.all() if row.is_visible()]
    assert [row.locator("th").inner_text() for row in shown] == ["(3,3)"] * 4
    assert page.get_by_text(f"4 of {rows.count()} rows").is_visible()
    _, content = saved(page, tool(page, "stages", "CSV"))
    assert len(list(csv.DictReader(io.StringIO(content.decode())))) == 4


def test_every_table_is_saved_as_csv_with_the_values_that_it_shows(page: Page, parsed: Parsed) -> None:
    assert len(parsed.tables) > 15
    for name, rows in parsed.tables.items():
        file, content = saved(page, tool(page, name, "CSV"))
        assert file == f"{name}.csv"
        head, *lines = csv.reader(io.StringIO(content.decode()))
        shown = [row for row in rows[1 if len(rows[1]) < 2 or len(rows[0]) == len(rows[-1]) else 2 :] if len(row) > 1]
        assert len(lines) == len(shown), name
        assert {len(line) for line in lines} == {len(head)}
        for line, row in zip(lines, shown, strict=True):
            values = line[1:] if head[0] == "Group" else line
            assert values[0] == row[0].split("|")[0]
            for cell in row[1:]:
                assert stands_in(cell.split("|")[0], values), (name, cell, line)


def stands_in(text: str, values: list[str]) -> bool:
    """Whether a printed text is among the saved values, which are not rounded."""
    plain = text.replace(MINUS, "-").replace(THIN_SPACE, "").lstrip("+±")
    if text in ("–", "") or text in values or plain in values:
        return True
    if not re.fullmatch(r"-?[\d.]+", plain):
        return any(text in value for value in values)
    rounding = 0.51 * 10 ** -len(plain.partition(".")[2])
    return any(abs(float(value) - float(plain)) <= rounding for value in values if re.fullmatch(r"-?[\d.e-]+", value))


def test_differences_are_columns_of_their_own(page: Page, parsed: Parsed) -> None:
    _, content = saved(page, tool(page, "headline", "CSV"))
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    base, cascade = (next(row for row in rows if row["Detector"].startswith(name)) for name in ("Faster", "Cascade"))
    difference = float(cascade["AP50"]) - float(base["AP50"])
    assert float(cascade["AP50, difference to the baseline"]) == pytest.approx(difference, abs=1e-7)
    assert base["AP50, difference to the baseline"] == ""
    assert f"{difference:+.1f}".replace("-", MINUS) in parsed.row("headline", "Cascade")[2]


def test_every_table_is_saved_as_latex(page: Page, parsed: Parsed) -> None:
    for name in parsed.tables:
        file, content = saved(page, tool(page, name, "LaTeX"))
        text = content.decode()
        assert file == f"{name}.tex"
        environments = re.findall(r"\\(begin|end)\{(\w+)\}", text)
        assert environments == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
        width = len(re.sub(r"\{0.25\\linewidth\}", "", re.search(r"\\begin\{tabular\}\{(.*)\}", text)[1]))
        for line in text.split("\\toprule")[1].split("\\bottomrule")[0].splitlines():
            if line.endswith("\\\\"):
                cells = len(re.findall(r"(?<!\\)&", line)) + 1
                cells += sum(int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line))
                assert cells == width, (name, line)
        body = re.sub(r"\\begin.*|\\end.*|\\cmidrule.*|^%.*|\$[-\\\w]+\$", "", text, flags=re.M)
        assert not re.search(r"(?<!\\)[%#_$^~]", re.sub(r"\\label\{.*", "", body)), name
        assert body.count("{") - body.count("\\{") == body.count("}") - body.count("\\}")


def paths(page: Page, chart: str) -> list[str]:
    return page.locator(f"[data-chart='{chart}'] svg .mark-line path").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('d'))"
    )


def test_the_curves_of_one_seed_can_be_chosen_by_keyboard(page: Page) -> None:
    figure = page.locator("#gaps-by-iou")
    figure.scroll_into_view_if_needed()
    page.locator("[data-chart='gaps-by-iou-1'] svg").wait_for()
    means = paths(page, "gaps-by-iou-1")
    seed = figure.get_by_role("combobox", name="Seed")
    seed.focus()
    page.keyboard.press("ArrowDown")
    assert seed.input_value() == "0"
    page.evaluate("drawAllCharts()")
    alone = paths(page, "gaps-by-iou-1")
    assert len(alone) == len(means) == 1
    assert alone != means
    assert page.locator("[data-chart='gaps-by-iou-1'] svg .mark-area path").count() == 0
    page.keyboard.press("ArrowUp")
    page.evaluate("drawAllCharts()")
    assert paths(page, "gaps-by-iou-1") == means


def test_frameworks_and_backbones_can_be_chosen(page: Page) -> None:
    figure = page.locator("#gaps-by-iou")
    shown = lambda: [one for one in figure.locator("[data-chart]").all() if one.is_visible()]  # noqa: E731
    assert len(shown()) == 8
    figure.get_by_role("checkbox", name="Detectron2", exact=True).focus()
    page.keyboard.press("Space")
    assert len(shown()) == 4
    figure.get_by_role("checkbox", name="resnet18_narrow", exact=True).uncheck()
    assert len(shown()) == 2
    assert all("resnet18" in one.get_attribute("data-shows") for one in shown())
    figure.get_by_role("checkbox", name="MMDetection", exact=True).uncheck()
    assert figure.get_by_text("Nothing is chosen").is_visible()
    figure.get_by_role("checkbox", name="Detectron2", exact=True).check()
    page.evaluate("drawAllCharts()")
    assert all(one.locator("svg").count() == 1 for one in shown())


def test_a_chart_is_saved_as_svg_png_and_csv(page: Page, parsed: Parsed) -> None:
    specification = parsed.charts()["ap-by-iou-1"]
    chart = page.locator("[data-chart='ap-by-iou-1']")
    files = {
        name: saved(page, chart.get_by_role("button", name=f"{name} of the chart")) for name in ("SVG", "PNG", "CSV")
    }
    assert [file for file, _ in files.values()] == ["ap-by-iou-1.svg", "ap-by-iou-1.png", "ap-by-iou-1.csv"]
    assert ElementTree.fromstring(files["SVG"][1]).tag.endswith("svg")
    picture = Image.open(io.BytesIO(files["PNG"][1]))
    assert picture.format == "PNG"
    assert min(picture.size) > 300
    rows = list(csv.DictReader(io.StringIO(files["CSV"][1].decode())))
    points = max(specification["datasets"].values(), key=len)
    assert [(row["label"], row["seed"], float(row["iou"]), float(row["value"])) for row in rows] == [
        (point["label"], point["seed"], point["iou"], point["value"]) for point in points
    ]
