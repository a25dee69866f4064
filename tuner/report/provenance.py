"""Where a run came from, and which files it left."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ensemble.files import Location
from tuner.replayed import StoredRun
from tuner.report.blocks import Block, Column, Facts, Paragraph, Section, Table
from tuner.report.numbers import count

# What a run may hold, by its name in the run directory.
FILES: Mapping[str, str] = {
    "run.yaml": "the resolved configuration, versions, seed",
    "folds.parquet": "every image with its label and fold",
    "fold_runs.parquet": "every fold run, and why it ended",
    "journal": "every event of the search in order",
    "config": "the files of --config-dir, as the run began with them",
    "search.log": "every decision with its time, and tracebacks",
    "oof": "out-of-fold probabilities, Parquet",
    "test": "probabilities of the test images, Parquet",
    "weights": "models, safetensors",
    "blend.json": "weights, temperatures, scores",
    "blend_oof.parquet": "the ensemble's nested predictions",
    "analysis": "the tables behind this page, Parquet",
    "submission.csv": "predictions for the test images",
    "dropped.csv": "images that were left out, and why",
}


@dataclass(frozen=True)
class Searched:
    """One searched setting: its range, and when it holds."""

    key: str
    values: str
    holds_when: str


@dataclass(frozen=True)
class Provenance:
    """`files`: (name, what) of those that are there, relative to the page."""

    command: str
    created: str
    seed: str
    fingerprint: str
    versions: Mapping[str, str]
    classes: int
    rows: str
    test_rows: str
    dropped: str
    folds: str
    slots: str
    searched: tuple[Searched, ...]
    files: tuple[tuple[str, str], ...]


def provenance_of(stored: StoredRun) -> Provenance:
    """From run.yaml as it stands; what an older version did not write is left empty."""
    raw, config = stored.raw, stored.config
    data, space = _mapping(raw.get("data")), _mapping(raw.get("space"))
    slots = config.search.resources.slots
    return Provenance(
        command=_command(raw, stored.directory.root),
        created=str(raw.get("created", "")),
        seed=str(config.seed),
        fingerprint=stored.record.data_fingerprint,
        versions={str(k): str(v) for k, v in _mapping(raw.get("versions")).items()},
        classes=len(stored.record.classes),
        rows=_counted(data.get("n_train")),
        test_rows=_counted(data.get("n_test")),
        dropped=_counted(data.get("n_dropped")),
        folds=f"{config.folds.k}, {config.folds.kind}",
        slots=str(slots) if slots else "as many as the machine or cluster holds",
        searched=tuple(_searched(one) for one in space.get("searched") or ()),
        files=tuple(
            (name, what) for name, what in FILES.items() if (stored.directory.root / name).exists()
        ),
    )


def provenance_section(found: Provenance, fingerprint_of_blend: str | None = None) -> Section:
    """Facts, the space that was searched, and links to the files beside the page."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    facts = [
        ("command", Markup("<code>{}</code>").format(found.command)),
        ("started", found.created),
        ("seed", found.seed),
        ("images", _images(found)),
        ("classes", count(found.classes)),
        ("folds", found.folds),
        ("slots", found.slots),
        ("data fingerprint", Markup("<code>{}</code>").format(found.fingerprint)),
        ("versions", versions),
    ]
    blocks: list[Block] = [Facts(tuple((name, value) for name, value in facts if value))]
    if fingerprint_of_blend and fingerprint_of_blend != found.fingerprint:
        text = (
            f"The blend was fitted on data with the fingerprint {fingerprint_of_blend}, which is "
            "not this run's: blend again."
        )
        blocks.append(Paragraph(text, "warning"))
    blocks += [table for table in (_space_table(found), _files_table(found)) if table.rows]
    return Section("provenance", "Provenance", tuple(blocks))


def _space_table(found: Provenance) -> Table:
    return Table(
        "What was searched",
        (Column("setting", "text"), Column("range", "text"), Column("holds when", "text")),
        tuple((one.key, one.values, one.holds_when) for one in found.searched),
    )


def _files_table(found: Provenance) -> Table:
    rows = tuple(
        (Markup('<a href="{}">{}</a>').format(name, name), what) for name, what in found.files
    )
    return Table(
        "Files of this run",
        (Column("file", "text"), Column("what is in it", "text")),
        rows,
        shown=len(FILES),
        reading="Links work while this page lies in the run's own folder.",
    )


def _images(found: Provenance) -> str:
    parts = [
        f"{number} {what}"
        for number, what in (
            (found.rows, "labelled"),
            (found.test_rows, "test"),
            (found.dropped, "left out"),
        )
        if number and number != "0"
    ]
    return ", ".join(parts)


def _command(raw: Mapping[str, Any], run: Location) -> str:
    words = [str(one) for one in raw.get("overrides") or ()]
    if raw.get("config_dir"):  # wherever it was: a job's own folder is gone when it has ended
        words += ["--config-dir", str(run / "config")]
    return shlex.join(["foldblend", "search", *words])


def _searched(one: object) -> Searched:
    values = _mapping(one)
    return Searched(*(str(values.get(key) or "") for key in ("key", "range", "holds_when")))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _counted(value: object) -> str:
    return count(value) if isinstance(value, int) else ""
