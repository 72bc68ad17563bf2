"""Parquet files of a fixed schema: the same rows give the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cascadebench.core.errors import InputError
from cascadebench.core.files import written_beside

WORD = pa.dictionary(pa.int32(), pa.string())
"""A column of few different texts."""


def required(name: str, kind: pa.DataType) -> pa.Field:
    """Column of a schema in which no value may be missing."""
    return pa.field(name, kind, nullable=False)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, however they are stored: in a dictionary, with 64-bit offsets as pandas does."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(kind) else kind


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Values as an Arrow array; raises ``pa.ArrowInvalid`` where one does not fit the type."""
    if pa.types.is_fixed_size_list(kind):
        rows = np.stack([np.asarray(row) for row in values]) if len(values) else np.empty((0, kind.list_size))
        if rows.shape[1:] != (kind.list_size,):
            raise ValueError(f"lists of {kind.list_size} values are expected, found {rows.shape[1:]}")
        return pa.FixedSizeListArray.from_arrays(_array(rows.ravel(), kind.value_type), kind.list_size)
    # To pandas NaN is a missing value; among numbers it stays a number here.
    array = pa.array(np.asarray(values), from_pandas=not pa.types.is_floating(kind)).cast(_plain(kind))
    return array.dictionary_encode() if pa.types.is_dictionary(kind) else array


def write_parquet(path: Path, columns: Mapping[str, Any], schema: pa.Schema) -> None:
    """Write columns as Parquet, beside and renamed.

    The rows stay in the order given, and nothing but the schema goes into the metadata. zstd, with the bytes of
    floating-point numbers split into streams, makes detections a tenth of their size as JSON.

    Parameters
    ----------
    columns : mapping of str to array-like, or DataFrame
        One entry of equal length for every column of the schema; others are left out.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the columns differ in length, or a value is missing or does not fit its column.
    """
    table = pa.Table.from_arrays([_array(columns[field.name], field.type) for field in schema], schema=schema)
    table.validate()
    words = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    split = {field.name: "BYTE_STREAM_SPLIT" for field in schema if pa.types.is_floating(field.type)}
    with written_beside(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=words, column_encoding=split)


def types_of_columns(path: Path) -> dict[str, pa.DataType]:
    """Types of the columns of a Parquet file; none where it cannot be read, which reading it says in full."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return {}
    return dict(zip(schema.names, schema.types, strict=True))


def read_parquet(path: Path, schema: pa.Schema, optional: Sequence[pa.Field] = ()) -> pd.DataFrame:
    """Read the columns of a schema from a Parquet file, one at a time, so that no two forms of the whole are in memory.

    Numbers of another type, as pandas may have written them, are taken where not one of them changes.

    Parameters
    ----------
    optional : sequence of Field
        Further columns that may be absent, and whose values may be missing.

    Returns
    -------
    DataFrame
        The columns in the schema's order; dictionaries are categorical. Columns not in the schema are left out.

    Raises
    ------
    InputError
        If the file is missing or no Parquet, or a column is missing, there twice, has another type or lacks a value.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            schema = pa.schema([*schema, *(field for field in optional if field.name in found)])
            for name in schema.names:
                if found.count(name) != 1:
                    problem = "is there twice" if name in found else "is missing"
                    raise InputError(f"{path}: column {name!r} {problem}; columns: {', '.join(schema.names)}")
            columns = {field.name: _column(path, file, field, field in optional) for field in schema}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from error
    return pd.DataFrame(columns, copy=False)


def _column(path: Path, file: pq.ParquetFile, field: pa.Field, may_be_missing: bool) -> pd.Series:
    """Read a column of a Parquet file; raises InputError if it does not fit."""
    column, kind = file.read([field.name], use_threads=False).column(0), _plain(field.type)
    if column.null_count and not may_be_missing:
        row = column.is_null().index(True).as_py()
        raise InputError(f"{path}: row {row} (counted from 0): {field.name} is missing")
    if _plain(column.type) != kind:
        problem = f"{path}: column {field.name!r} is {column.type}; {kind} is expected"
        if not _may_hold(kind, column.type):
            raise InputError(problem)
        try:
            column = column.cast(kind)
        except pa.ArrowInvalid as error:
            raise InputError(f"{problem}: {error}") from error
    values = column.to_pandas()
    del column
    pa.default_memory_pool().release_unused()  # which would add up over the columns
    return values.astype("category") if pa.types.is_dictionary(field.type) else values


def _may_hold(kind: pa.DataType, found: pa.DataType) -> bool:
    """Whether numbers of type `found` may all be of `kind`: a cast refuses one that is not, but rounds float64."""
    numbers = all(pa.types.is_integer(one) or pa.types.is_floating(one) for one in (kind, found))
    return numbers and not (pa.types.is_float32(kind) and pa.types.is_float64(found))
