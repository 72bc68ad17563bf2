"""Commands on what a study is made of: the installation, datasets, variants, schemas."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cascadebench.core.configuration import PROJECT
from cascadebench.datasets.card import load_dataset_card


def doctor() -> None:
    """Say what is installed, what serves mmcv's operators, which GPUs there are, and what mends what is missing."""
    from cascadebench.cli.doctor import examine

    raise typer.Exit(examine(Console()))


def prepare(dataset: str, out: Annotated[Path, typer.Option(help="Folder to write")]) -> None:
    """Check a dataset of config/datasets/ (or draw the embedded one) and lock it."""
    from cascadebench.datasets.prepare import prepare as prepare_dataset

    prepare_dataset(load_dataset_card(dataset), out)


def describe_dataset(
    name: str,
    root: Path,
    train: Annotated[tuple[str, str], typer.Option(help="Annotation file and image folder, relative to the root")],
    val: Annotated[tuple[str, str], typer.Option(help="Annotation file and image folder, relative to the root")],
) -> None:
    """Print a card for a COCO-format folder, to be saved as config/datasets/NAME.yaml."""
    from cascadebench.datasets.describe import describe_folder

    print(describe_folder(root, name, train, val), end="")


def new_variant(
    name: str,
    base: Annotated[str, typer.Option("--from", help="Variant to start from")],
    folder: Annotated[
        Path | None, typer.Option(help="Folder for a variant outside the project; default: one of the project's own")
    ] = None,
) -> None:
    """Write the card and the modules of a new variant, to be edited."""
    from cascadebench.detectors.new_variant import new_variant as write_variant

    for path in write_variant(name, base, folder):
        print(path)
    if folder is None:
        print(f"written into the project itself, {PROJECT}; --folder DIR keeps a variant outside", file=sys.stderr)


def schemas(out: Path = PROJECT / "workflows" / "schemas") -> None:
    """Write the JSON Schemas of studies, protocols, datasets, backbones, cards and runs."""
    from cascadebench.cli.schemas import write_schemas

    write_schemas(out)
