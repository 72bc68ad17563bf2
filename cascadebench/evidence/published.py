"""Published values: what papers and model zoos print, with the circumstances that each number belongs to.

One YAML file per source under ``cascadebench/evidence/published/``. A file, a table and a row may each say a
circumstance; the row's word goes before the table's, the table's before the file's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from cascadebench.core.configuration import Configuration, read_named
from cascadebench.core.errors import InputError
from cascadebench.detectors.cards import Value, VariantCard
from cascadebench.detectors.inference_stages import TestStage
from cascadebench.detectors.variant_catalog import find_variant, own_variants
from cascadebench.evidence.metrics import MEASURED_SCALE, PUBLISHED_METRICS, Unit
from cascadebench.evidence.source_protocols import SourceProtocol, find_schedule

FOLDER = Path(__file__).parent / "published"
NOT_GIVEN = "not given"
Id = Annotated[str, MinLen(1)]


class Circumstances(Configuration):
    """Where a value belongs. A key that is left out is what the table or the file says."""

    dataset: str | None = None
    """Name of a card under ``config/datasets/``."""
    split: str | None = None
    """Images that the value was measured on, such as val2017 or test-dev; ``not given`` if the source does not say."""
    framework: Literal["mmdet", "detectron2", "detectron", "caffe", "not given"] | None = None
    """What it was trained with; ``not given`` if the source does not say."""
    backbone: str | None = None
    """Name of a file under ``config/backbones/``; null: none of this project's."""
    backbone_words: str | None = None
    """The backbone as the source calls it."""
    schedule: str | None = None
    """Name of a schedule under ``protocols/``."""
    variant: str | None = None
    """Name of a variant's card; null: a detector that this project does not have."""
    options: dict[str, Value] = {}
    """Options of the variant that are not its card's defaults; they replace the table's as a whole."""
    test_stage: str | None = None
    """Label of the test stage; null: none in particular."""
    entering_stage: Annotated[int, Ge(1)] | None = None
    """For recall of proposals: the stage that the proposals enter, 1 for those of the RPN."""


class Row(Circumstances):
    """A row of a published table."""

    id: Id
    words: str
    """What the row is called in the source, parts between ``|``; the test of the transcription looks for them."""
    values: tuple[float | None, ...]
    """One per column of the table, as printed; null: not printed."""
    differs: tuple[str, ...] = ()
    """What makes the row's values hard to compare, beside the table's."""


class Table(Circumstances):
    """A published table."""

    id: Id
    place: str
    """Its name in the source."""
    columns: Annotated[tuple[str, ...], MinLen(1)]
    """Metrics; see ``docs/evidence.md``."""
    rows: Annotated[tuple[Row, ...], MinLen(1)]
    differs: tuple[str, ...] = ()
    """What makes values of the table hard to compare."""


class Statement(Configuration):
    """What a figure shows, where the source gives no number."""

    id: Id
    place: str
    words: str
    """In words of our own."""
    claims: tuple[str, ...] = ()
    """Ids of the claims that test it."""


class PublishedFile(Circumstances):
    """``cascadebench/evidence/published/<name>.yaml``: one paper or page."""

    name: Id
    title: str
    source: str
    """Authors, title, where it appeared."""
    text: str
    """Name of the text file that the numbers were copied from."""
    of_code: dict[str, Value] = {}
    """Options that the source's own code has wherever a variant of its rows has them and the row names no other."""
    tables: Annotated[tuple[Table, ...], MinLen(1)]
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class PublishedValue:
    """One printed number; what has no words here is as in :class:`Circumstances`."""

    id: str
    """``file.table.row.metric``."""
    value: float
    """As printed, in `unit`."""
    metric: str
    unit: Unit
    """A name of :data:`cascadebench.evidence.metrics.PUBLISHED_METRICS` and its unit."""
    source: str
    text: str
    place: str
    words: str
    """The source, the file that it was copied from, the table and the row's words."""
    dataset: str
    split: str
    framework: str
    backbone: str | None
    backbone_words: str | None
    schedule: SourceProtocol
    """In the source's numbers."""
    variant: str | None
    options: dict[str, Any]
    """All options of the variant, defaults filled in; empty without a variant."""
    test_stage: str | None
    entering_stage: int | None
    differs: tuple[str, ...]
    """What makes it hard to compare."""

    @property
    def measured(self) -> float:
        """The value in this project's unit of the same metric: fractions, counts, multiply-adds, MB, seconds."""
        # In decimals, so that 43.2 percent is 0.432 and not its neighbour.
        return float(Decimal(str(self.value)) * Decimal(str(MEASURED_SCALE.get(self.unit, 1))))


def complete_options(variant: str, options: Mapping[str, Value], asked_by: str) -> dict[str, Value]:
    """Fill the options of one of the project's variants with its card's defaults.

    Raises
    ------
    InputError
        If the project has no such variant, it has no such option, or a value is not allowed.
    """
    if variant not in _variants_before() and variant not in own_variants():  # the second reads the folders
        raise InputError(f"{asked_by}: variant: unknown variant {variant!r}; there are: {', '.join(own_variants())}")
    return _card(variant).complete_options(dict(options), f"{asked_by}: options")


def reading_options(variant: str) -> dict[str, str]:
    """Options of one of the project's variants that are readings of its sources, and why each is one."""
    return {name: option.reading for name, option in _card(variant).options.items() if option.reading}


@cache
def _variants_before() -> list[str]:
    """The project's variants when they were first asked for."""
    return own_variants()


@cache
def _card(name: str) -> VariantCard:
    return find_variant(name, "variants").card


@cache
def load_published(folder: Path = FOLDER) -> dict[str, PublishedValue]:
    """Read every published value, by id.

    Raises
    ------
    InputError
        A file is malformed; a metric, variant, option, schedule or test stage does not exist; a row has more or fewer
        values than its table columns; a circumstance is missing; two values have one id.
    """
    found: dict[str, PublishedValue] = {}
    for path in sorted(folder.glob("*.yaml")):
        for value in _values(read_named(PublishedFile, folder, path.stem, "published values"), path):
            if value.id in found:
                raise InputError(f"{path}: tables: the id {value.id!r} is given twice")
            found[value.id] = value
    return found


def _values(file: PublishedFile, path: Path) -> Iterator[PublishedValue]:
    for table in file.tables:
        asked_by = f"{path}: table {table.id}"
        for column in table.columns:
            if column not in PUBLISHED_METRICS:
                known = ", ".join(PUBLISHED_METRICS)
                raise InputError(f"{asked_by}: columns: unknown metric {column!r}; there are: {known}")
        for row in table.rows:
            yield from _row_values(file, table, row, f"{asked_by}, row {row.id}")


def _row_values(file: PublishedFile, table: Table, row: Row, asked_by: str) -> Iterator[PublishedValue]:
    if len(row.values) != len(table.columns):
        raise InputError(f"{asked_by}: values: {len(row.values)} values for {len(table.columns)} columns")
    about = _circumstances(file, table, row)
    for key in ("dataset", "split", "framework", "schedule"):
        if about[key] is None:
            raise InputError(f"{asked_by}: {key}: missing in the row, the table and the file")
    about["schedule"] = find_schedule(about["schedule"], f"{asked_by}: schedule")
    if about["variant"] is not None:
        known = _card(about["variant"]).options if about["variant"] in own_variants() else {}
        of_code = {name: value for name, value in file.of_code.items() if name in known}
        about["options"] = complete_options(about["variant"], of_code | about["options"], asked_by)
    elif about["options"]:
        raise InputError(f"{asked_by}: options: there is no variant that they are of")
    if about["test_stage"] is not None:
        try:
            TestStage.parse(about["test_stage"])
        except ValueError as error:
            raise InputError(f"{asked_by}: test_stage: {error}") from error
    for column, value in zip(table.columns, row.values, strict=True):
        if value is None:
            continue
        yield PublishedValue(
            id=f"{file.name}.{table.id}.{row.id}.{column}",
            value=value,
            metric=column,
            unit=PUBLISHED_METRICS[column],
            source=file.source,
            text=file.text,
            place=table.place,
            words=row.words,
            differs=(*table.differs, *row.differs),
            **about,
        )


def _circumstances(file: PublishedFile, table: Table, row: Row) -> dict[str, Any]:
    """Circumstances of a row: its own where it says one, else the table's, else the file's."""
    levels = (row, table, file)
    result = {}
    for key in Circumstances.model_fields:
        said = next((level for level in levels if key in level.model_fields_set), file)
        result[key] = getattr(said, key)
    return result
