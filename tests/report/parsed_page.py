"""A written report as tests read it."""

import json
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
        if tag in ("script", "style"):
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
        if tag in ("script", "style"):
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
            if self._cell is not None and data.strip():
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
    """Write the report and read it."""
    output = folder / "reports" / "out.html"
    write_report(study, results, output)
    return Page(output.read_text(encoding="utf-8"))
