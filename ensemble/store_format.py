"""The bytes of one OOF store file, version 1: Parquet with a fixed schema and schema metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.errors import BlendError
from ensemble.predictions import ROUNDING, UNKNOWN_LABEL, Predictions

VERSION = 1
VERSION_KEY = b"foldblend.version"
CLASSES_KEY = b"foldblend.classes"
CONFIG_ID_KEY = b"foldblend.config_id"
CONFIGURATION_KEY = b"foldblend.configuration"
METRICS_KEY = b"foldblend.metrics"
FINGERPRINT_KEY = b"foldblend.data_fingerprint"

TRUE_CLASS_COLUMNS = ("id", "label", "fold", "p_true")  # all that log loss asks for
KEY_COLUMNS = ("id", "label", "fold")  # the same in the files of every member


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
    columns = [
        pa.array(predictions.ids, pa.string()),
        pa.array(predictions.labels),
        pa.array(predictions.folds),
        pa.array(predictions.p_true, mask=predictions.labels == UNKNOWN_LABEL),
        pa.FixedSizeListArray.from_arrays(flat, type=schema(n_classes).field("proba").type),
    ]
    return _parquet(columns, schema(n_classes), metadata)


def encode_true_class(
    ids: NDArray[np.object_],
    labels: NDArray[np.integer],
    folds: NDArray[np.integer],
    p_true: NDArray[np.floating],
    metadata: StoreMetadata,
) -> bytes:
    """One Parquet file of the same version without the column `proba`: enough for log loss, at
    a hundredth of the size for 100 classes. All arrays are (N,); `p_true` counts only where the
    label is known. Raises BlendError for ids that are not each once, unequal lengths, a label
    that is no class and a probability outside 0 to 1.
    """
    lengths = {len(ids), len(labels), len(folds), len(p_true)}
    if len(lengths) > 1 or len(set(ids)) < len(ids):
        raise BlendError(
            f"configuration {metadata.config_id}: expected as many ids (each once), labels, folds "
            f"and probabilities, got {len(set(ids))} ids in {len(ids)} rows, {len(labels)} "
            f"labels, {len(folds)} folds and {len(p_true)} probabilities"
        )
    beyond = np.flatnonzero((labels < UNKNOWN_LABEL) | (labels >= len(metadata.classes)))
    if len(beyond):
        raise BlendError(
            f"id {ids[beyond[0]]!r}: expected a label from -1 (unknown) to "
            f"{len(metadata.classes) - 1}, got {labels[beyond[0]]}"
        )
    known = labels != UNKNOWN_LABEL
    values = np.where(known, p_true, 0.0).astype(np.float32)
    check_p_true(values, ids)
    columns = [
        pa.array(ids, pa.string()),
        pa.array(labels, pa.int32()),
        pa.array(folds, pa.int16()),
        pa.array(values, mask=~known),
    ]
    without = pa.schema([schema(1).field(name) for name in TRUE_CLASS_COLUMNS])
    return _parquet(columns, without, metadata)


def check_p_true(values: NDArray[np.float32], ids: NDArray[np.object_] | pa.Array) -> None:
    """Raise BlendError, naming the id, unless every one of `values` (N,) is from 0 to 1."""
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    if low >= -ROUNDING and high <= 1 + ROUNDING:  # NaN anywhere makes both NaN
        return
    row = int(np.flatnonzero(~((values >= -ROUNDING) & (values <= 1 + ROUNDING)))[0])
    raise BlendError(
        f"id {str(ids[row])!r}: expected a p_true from 0 to 1 where the label is known, "
        f"got {values[row]}"
    )


def _parquet(columns: list[pa.Array], layout: pa.Schema, metadata: StoreMetadata) -> bytes:
    table = pa.table(columns, schema=layout.with_metadata(_metadata_items(metadata)))
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
        raise damaged(error) from error
    metadata = _parse_metadata(table.schema)
    _check_probabilities_stored(table.schema)
    check_columns(table.schema, len(metadata.classes))
    check_no_null(table, ("id", "label", "fold", "proba"))
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
        raise damaged(error) from error
    return _parse_metadata(found)


def damaged(error: Exception) -> BlendError:
    """What to raise where pyarrow cannot read the bytes."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BlendError(f"expected a whole Parquet file, got damaged data ({reason}); write it again")


def check_no_null(table: pa.Table, columns: Sequence[str]) -> None:
    """Raise BlendError unless these columns have a value in every row."""
    for name in columns:
        if table[name].null_count:
            raise BlendError(f"expected a value in every row of column {name!r}, got a null")


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
    check_version(items.get(VERSION_KEY))
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


def check_version(text: bytes | None) -> None:
    """Raise BlendError unless `text`, the file's foldblend.version, is one that we can read."""
    if text is None:
        raise BlendError("expected an OOF store file, got Parquet without foldblend.version")
    if not text.isdigit() or int(text) < 1:
        raise BlendError(f"expected a store version such as {VERSION}, got {text.decode()!r}")
    if int(text) > VERSION:
        raise BlendError(
            f"expected store version {VERSION}, got the newer {int(text)}: upgrade foldblend"
        )


def check_columns(found: pa.Schema, n_classes: int, names: Sequence[str] | None = None) -> None:
    """Raise BlendError unless these columns (None: all of version 1) are there with their types.
    Other programs may write ids as large strings, and columns of their own beside ours."""
    expected = schema(n_classes)
    for name in names or expected.names:
        if name not in found.names:
            raise BlendError(
                f"expected the column {name!r}, got {', '.join(map(repr, found.names))}"
            )
        actual, wanted = found.field(name).type, expected.field(name).type
        if actual != wanted and (name, actual) != ("id", pa.large_string()):
            raise BlendError(f"column {name!r}: expected {wanted}, got {actual}")


def _check_probabilities_stored(found: pa.Schema) -> None:
    if "proba" not in found.names and "p_true" in found.names:
        raise BlendError(
            "expected the column 'proba', got only the true class's probability (p_true): that "
            "blends by log_loss without calibration, by methods that average; other metrics and "
            "methods need every class's probability"
        )
