"""The bytes in which a store file holds ids, labels and folds, to be recognised in another file.

Folds are fixed and every member's file is written in their order, so that these columns are mostly
the same bytes in the files of all members. Comparing them takes a fiftieth of decoding them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.store_format import KEY_COLUMNS


@dataclass(frozen=True, eq=False)
class KeyBytes:
    """`schema` of a Parquet file and the `columns` in it that are key columns; of these, row group
    by row group, what the footer says about a column chunk (`about`) and its bytes (`data`): all
    that their values are decoded from."""

    schema: pq.ParquetSchema
    columns: tuple[int, ...]
    about: tuple[tuple[object, ...], ...]
    data: tuple[pa.Buffer, ...]

    @classmethod
    def of(cls, source: pa.NativeFile, file: pq.ParquetFile) -> KeyBytes:
        """Those of `file`, opened from `source`. It must have the key columns."""
        paths = [file.schema.column(index).path for index in range(file.metadata.num_columns)]
        columns = tuple(paths.index(name) for name in KEY_COLUMNS)
        chunks = list(_chunks(file, columns))
        return cls(
            file.schema,
            columns,
            tuple(map(_about, chunks)),
            tuple(_read(source, chunk) for chunk in chunks),
        )

    def are_in(self, source: pa.NativeFile, file: pq.ParquetFile) -> bool:
        """Whether `file`, opened from `source`, has the same ids, labels and folds in the same
        bytes. False says nothing: the same values can be written in many ways."""
        if not file.schema.equals(self.schema):
            return False
        chunks = list(_chunks(file, self.columns))
        return tuple(map(_about, chunks)) == self.about and all(
            _read(source, chunk).equals(data) for chunk, data in zip(chunks, self.data, strict=True)
        )


def _chunks(file: pq.ParquetFile, columns: tuple[int, ...]) -> Iterator[pq.ColumnChunkMetaData]:
    about = file.metadata
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        for index in columns:
            yield group.column(index)


def _about(chunk: pq.ColumnChunkMetaData) -> tuple[object, ...]:
    """What decides, beside its bytes and the schema, how a column chunk is decoded."""
    return chunk.compression, chunk.num_values, chunk.total_compressed_size, chunk.encodings


def _read(source: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> pa.Buffer:
    start = chunk.data_page_offset
    if chunk.has_dictionary_page:
        start = min(start, chunk.dictionary_page_offset)
    source.seek(start)
    return source.read_buffer(chunk.total_compressed_size)
