"""What a section of the page is: its title, what it needs, and what its template prints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cascadebench.report.data.study_results import StudyResults


def has_runs(results: StudyResults) -> bool:
    """Whether the study trains anything: not one of imported detections alone."""
    return bool(results.runs)


@dataclass(frozen=True)
class Section:
    """A section: a module under ``sections/`` builds it, and a template prints what was built.

    Attributes
    ----------
    id : str
        Its anchor in the page and the name of its template, ``templates/sections/<id>.html.jinja``.
    title : str
        Its heading; empty: it has none, and no entry in the contents.
    build : function
        Gives the values of its template by name. A figure among them, also in a list or a tuple, is drawn by the page.
    entry : str
        Its entry in the contents; empty: the title.
    needs : function
        Whether a study has it.
    """

    id: str
    title: str
    build: Callable[[StudyResults], dict[str, Any]]
    entry: str = ""
    needs: Callable[[StudyResults], bool] = lambda results: True

    @property
    def template(self) -> str:
        """Path of its template."""
        return f"sections/{self.id}.html.jinja"
