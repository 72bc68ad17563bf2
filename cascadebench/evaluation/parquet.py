"""Parquet files of a fixed schema: the same rows give the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cascadebench.errors import InputError
from cascadebench.files import written_beside

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


def type_of_column(path: Path, name: str) -> pa.DataType | None:
    """Type of a column of a Parquet file; None where there is none, which reading the file says in full."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return None
    return schema.field(name).type if name in schema.names else None


def read_parquet(path: Path, schema: pa.Schema, optional: Sequence[pa.Field] = ()) -> pd.DataFrame:
    """Read the columns of a schema from a Parquet file.

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
        If the file is missing or no Parquet, or a column is missing, has another type or lacks a value.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        found = pq.read_schema(path)
        for field in optional:
            if field.name in found.names:
                schema = schema.append(field)
        table = pq.read_table(path, columns=[name for name in schema.names if name in found.names])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from error
    for field in schema:
        if field.name not in found.names:
            raise InputError(f"{path}: column {field.name!r} is missing; columns: {', '.join(schema.names)}")
        column = table.column(field.name)
        if _plain(column.type) != _plain(field.type):
            raise InputError(f"{path}: column {field.name!r} is {column.type}; {_plain(field.type)} is expected")
        if column.null_count and field not in optional:
            row = column.is_null().index(True).as_py()
            raise InputError(f"{path}: row {row} (counted from 0): {field.name} is missing")
    # A file that pandas wrote says which column was its index; here all of them are columns.
    rows = table.select(schema.names).to_pandas(ignore_metadata=True)
    return rows.astype({field.name: "category" for field in schema if pa.types.is_dictionary(field.type)})
