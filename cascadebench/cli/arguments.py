"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

StudyName = Annotated[str, typer.Argument(help="Name under config/studies/, or a path to a study's .yaml")]
Results = Annotated[Path, typer.Option(help="Folder of results")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
SizesOnly = Annotated[bool, typer.Option("--sizes-only", help="Record the size of every picture's file alone")]
PreparedDataset = Annotated[Path, typer.Option(help="Prepared dataset")]
