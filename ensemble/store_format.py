"""The bytes of one OOF store file, version 1: Parquet with a fixed schema and schema metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.errors import BlendError
from ensemble.predictions import UNKNOWN_LABEL, Predictions

VERSION = 1
VERSION_KEY = b"foldblend.version"
CLASSES_KEY = b"foldblend.classes"
CONFIG_ID_KEY = b"foldblend.config_id"
CONFIGURATION_KEY = b"foldblend.configuration"
METRICS_KEY = b"foldblend.metrics"
FINGERPRINT_KEY = b"foldblend.data_fingerprint"


@dataclass(frozen=True)
class StoreMetadata:
    """What a store file says about itself. `classes`: names in the order of the probabilities;
    `metrics`: the fold run's own values by metric name; `data_fingerprint`: of the training data.
    """

    classes: tuple[str, ...]
    config_id: str
    configuration: Mapping[str, object]
    metrics: Mapping[str, float]
    data_fingerprint: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise BlendError(f"expected class names, each once, got {list(self.classes)}")


def schema(n_classes: int) -> pa.Schema:
    """The columns of version 1, without metadata."""
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("label", pa.int32()),
            pa.field("fold", pa.int16()),
            pa.field("p_true", pa.float32()),
            pa.field("proba", pa.list_(pa.float32(), n_classes)),
        ]
    )


def encode(predictions: Predictions, metadata: StoreMetadata) -> bytes:
    """One Parquet file. Raises BlendError when the class names do not fit the probabilities, and
    ValueError when the configuration or a metric has no JSON form (NaN has none)."""
    n_classes = len(metadata.classes)
    if n_classes != predictions.n_classes:
        raise BlendError(
            f"configuration {metadata.config_id}: expected {n_classes} probabilities a row "
            f"(one a class), got {predictions.n_classes}"
        )
    flat = pa.array(predictions.proba.reshape(-1))
    table = pa.table(
        [
            pa.array(predictions.ids, pa.string()),
            pa.array(predictions.labels),
            pa.array(predictions.folds),
            pa.array(predictions.p_true, mask=predictions.labels == UNKNOWN_LABEL),
            pa.FixedSizeListArray.from_arrays(flat, type=schema(n_classes).field("proba").type),
        ],
        schema=schema(n_classes).with_metadata(_metadata_items(metadata)),
    )
    out = BytesIO()
    # Probabilities hardly shrink: compressing them costs more reading time than it saves disk.
    compression = {"id": "zstd", "label": "zstd", "fold": "zstd"}
    pq.write_table(
        table, out, use_dictionary=False, compression=compression, write_page_checksum=True
    )
    return out.getvalue()


def decode(data: bytes) -> tuple[Predictions, StoreMetadata]:
    """The inverse of `encode`. Raises BlendError for anything that is not a whole, valid store
    file of this version."""
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(error) from error
    metadata = _parse_metadata(table.schema)
    _check_columns(table.schema, len(metadata.classes))
    empty = next(
        (name for name in ("id", "label", "fold", "proba") if _has_null(table, name)), None
    )
    if empty:
        raise BlendError(f"expected a value in every row of column {empty!r}, got a null")
    predictions = Predictions(
        table["id"].to_numpy(zero_copy_only=False),
        table["label"].to_numpy(),
        table["fold"].to_numpy(),
        _values(table["proba"]).reshape(-1, len(metadata.classes)),
    )
    return predictions, metadata


def decode_metadata(source: pa.NativeFile) -> StoreMetadata:
    """Only the metadata, from the file's footer."""
    try:
        found = pq.read_schema(source)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(error) from error
    return _parse_metadata(found)


def _damaged(error: Exception) -> BlendError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BlendError(f"expected a whole Parquet file, got damaged data ({reason}); write it again")


def _has_null(table: pa.Table, column: str) -> bool:
    return bool(table[column].null_count)


def _values(column: pa.ChunkedArray) -> np.ndarray:
    """The flat float32 values of a fixed-size list column. `flatten` respects slices."""
    return np.concatenate(
        [np.empty(0, np.float32)] + [chunk.flatten().to_numpy() for chunk in column.chunks]
    )


def _metadata_items(metadata: StoreMetadata) -> dict[bytes, bytes]:
    def as_json(value: object) -> bytes:
        return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()

    return {
        VERSION_KEY: str(VERSION).encode(),
        CLASSES_KEY: as_json(list(metadata.classes)),
        CONFIG_ID_KEY: metadata.config_id.encode(),
        CONFIGURATION_KEY: as_json(dict(metadata.configuration)),
        METRICS_KEY: as_json({name: float(value) for name, value in metadata.metrics.items()}),
        FINGERPRINT_KEY: metadata.data_fingerprint.encode(),
    }


def _parse_metadata(found: pa.Schema) -> StoreMetadata:
    items = found.metadata or {}
    _check_version(items.get(VERSION_KEY))
    try:
        return StoreMetadata(
            classes=tuple(json.loads(items[CLASSES_KEY])),
            config_id=items[CONFIG_ID_KEY].decode(),
            configuration=dict(json.loads(items[CONFIGURATION_KEY])),
            metrics={k: float(v) for k, v in dict(json.loads(items[METRICS_KEY])).items()},
            data_fingerprint=items[FINGERPRINT_KEY].decode(),
        )
    except KeyError as error:
        raise BlendError(f"expected the metadata key {error.args[0].decode()}, got none") from error
    except BlendError:
        raise
    except (ValueError, TypeError) as error:
        raise BlendError(f"expected JSON in the foldblend metadata, got {error}") from error


def _check_version(text: bytes | None) -> None:
    if text is None:
        raise BlendError("expected an OOF store file, got Parquet without foldblend.version")
    if not text.isdigit() or int(text) < 1:
        raise BlendError(f"expected a store version such as {VERSION}, got {text.decode()!r}")
    if int(text) > VERSION:
        raise BlendError(
            f"expected store version {VERSION}, got the newer {int(text)}: upgrade foldblend"
        )


def _check_columns(found: pa.Schema, n_classes: int) -> None:
    for field in schema(n_classes):
        if field.name not in found.names:
            raise BlendError(
                f"expected the column {field.name!r}, got {', '.join(map(repr, found.names))}"
            )
        actual = found.field(field.name).type
        if actual != field.type and (field.name, actual) != ("id", pa.large_string()):
            raise BlendError(f"column {field.name!r}: expected {field.type}, got {actual}")
