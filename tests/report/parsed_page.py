"""A written report as tests read it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from cascadebench.report import write_report
from cascadebench.study.study import Study


class Page(HTMLParser):
    """What a browser would see: tags, text, scripts, and the rows of every table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict, str]] = []
        self.styles, self.text = "", ""
        self._inside, self._cell, self._table = "", None, ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag; open scripts, tables, rows and cells."""
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag in ("script", "style", "summary"):
            self._inside = tag
            self.scripts += [(values, "")] if tag == "script" else []
        elif tag == "table":
            self._table = values["id"]
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        """Close scripts and cells."""
        if tag in ("script", "style", "summary"):
            self._inside = ""
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("|".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        """Sort text to where it belongs."""
        if self._inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif self._inside == "style":
            self.styles += data
        else:
            self.text += data
            # What opens a fold in a cell is none of its content.
            if self._cell is not None and data.strip() and self._inside != "summary":
                self._cell.append(data.strip())

    @property
    def executed(self) -> list[str]:
        """Scripts that the browser runs."""
        return [text for attributes, text in self.scripts if attributes.get("type") is None]

    def data(self, identifier: str) -> dict:
        """JSON of a script element that is only data."""
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == identifier)

    def charts(self) -> dict[str, dict]:
        """Specifications of the charts by id, unpacked as the page's script does it."""
        packed = self.data("chart-specifications")

        def whole(value: Any) -> Any:
            if isinstance(value, dict):
                if "part" in value:
                    return whole(packed["parts"][value["part"]])
                return {name: whole(inner) for name, inner in value.items()}
            return [whole(inner) for inner in value] if isinstance(value, list) else value

        charts = whole(packed["charts"])
        for chart in charts.values():
            chart["datasets"] = {name: _rows(**columns) for name, columns in chart["datasets"].items()}
        return charts

    def row(self, table: str, head: str, nth: int = 0) -> list[str]:
        """The nth row whose header starts with `head`."""
        return [row for row in self.tables[table] if row and row[0].startswith(head)][nth]


def _rows(names: list[str], columns: list) -> list[dict[str, Any]]:
    """Rows of packed columns; a row has no key where its value is null."""
    values = [
        [value for value, times in zip(column["runs"][::2], column["runs"][1::2], strict=True) for _ in range(times)]
        if isinstance(column, dict)
        else column
        for column in columns
    ]
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*values, strict=True)
    ]


def report_on(study: Study, results: Path, folder: Path) -> Page:
    """Write the report and read it; what holds for every page is checked."""
    output = folder / "reports" / "out.html"
    write_report(study, results, output)
    page = Page(output.read_text(encoding="utf-8"))
    check_loads_nothing(page)
    check_links(page)
    return page


def check_loads_nothing(page: Page) -> None:
    """One small file that loads nothing and runs no script but its own."""
    loading = {"src", "srcset", "data", "poster", "action", "background"}
    assert [attributes for _, attributes in page.tags if loading & set(attributes)] == []
    assert not re.search(r"@import|url\(|@font-face", page.styles)
    assert not {tag for tag, _ in page.tags} & {"link", "base", "iframe", "object", "embed", "img"}
    assert len(page.html.encode()) < 4_000_000
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    policy = next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.executed]
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert "http" not in policy
    assert "unsafe-eval" not in policy


def check_links(page: Page) -> None:
    """Every link leads to a place in the page, an embedded picture or a source; every chart has one place."""
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = [attributes["href"] for _, attributes in page.tags if attributes.get("href")]
    targets = {link.removeprefix("#") for link in links if not link.startswith(("data:image/jpeg;base64,", "https://"))}
    assert targets
    assert targets <= set(identifiers)
    places = [attributes["data-chart"] for _, attributes in page.tags if "data-chart" in attributes]
    assert sorted(places) == sorted(page.charts())
