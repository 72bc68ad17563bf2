"""What commands have in common: how a study and the results are named, and where output goes."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

StudyName = Annotated[str, typer.Argument(help="Name under config/studies/, or a path to a study's .yaml")]
Results = Annotated[Path, typer.Option(help="Folder of results")]


def console() -> Console:
    """As wide as a terminal; in a file or pipe as wide as what is printed, so that nothing is folded there."""
    return Console() if sys.stdout.isatty() else Console(width=10_000)
