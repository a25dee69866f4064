"""1,000 members of 100,000 rows and 100 classes, blended for log loss within 4 GiB.

    python benchmarks/blending_memory.py [--members 1000] [--rows 100000] [--directory DIR]

Writes an OOF store that has only the column of the true class (about 600 MB), then blends it in a
fresh process: equal weights, the convex optimum and greedy selection, chosen among by the nested
score over five folds. Prints the seconds of each phase and the process's peak memory, and exits
with 1 where that is above 4 GiB. The files were just written: the disk's own speed is not in it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ensemble.blend import BlendSettings
from ensemble.files import Location
from ensemble.run import FOLDS_FILE, blend_run
from ensemble.store import OofStore
from ensemble.store_format import StoreMetadata, encode_true_class

CLASSES = tuple(f"class {number:02d}" for number in range(100))
FOLDS = 5
LIMIT_BYTES = 4 << 30
SETTINGS = BlendSettings(
    methods=("equal", "convex", "greedy"),
    calibrate=False,
    calibrate_blend="none",
    bootstrap=500,
    refits=5,
    explain=False,
)


def write_store(run: Location, members: int, rows: int, seed: int = 0) -> None:
    """`folds.parquet` and five true-class files a member. Models of known skill: the logit of the
    true class is a bonus, noise shared by all and noise of its own."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"image_{row:06d}.jpg" for row in range(rows)], dtype=object)
    labels = rng.integers(len(CLASSES), size=rows).astype(np.int32)
    folds = (np.arange(rows) % FOLDS).astype(np.int16)
    table = {"id": ids, "label": labels, "group": pa.nulls(rows, pa.string()), "fold": folds}
    pq.write_table(pa.table(table), (run / FOLDS_FILE).uri)
    shared = rng.normal(0.0, 1.5, rows)
    for member in range(members):
        own = rng.normal(rng.uniform(0.0, 1.5), rng.uniform(0.5, 2.0), rows)
        p_true = (1.0 / (1.0 + np.exp(-shared - own))).astype(np.float32)
        _write_member(OofStore(run), f"m{member:04d}", ids, labels, folds, p_true)


def _write_member(
    store: OofStore,
    name: str,
    ids: NDArray[np.object_],
    labels: NDArray[np.int32],
    folds: NDArray[np.int16],
    p_true: NDArray[np.float32],
) -> None:
    about = StoreMetadata(CLASSES, name, {}, {}, "made")
    for fold in range(FOLDS):
        rows = folds == fold
        data = encode_true_class(ids[rows], labels[rows], folds[rows], p_true[rows], about)
        store.fold_location("oof", name, fold).write_bytes(data)


@dataclass
class Phases:
    """The seconds between one line of progress and the next."""

    started: float = field(default_factory=time.perf_counter)
    text: str = "listing the store"

    def __call__(self, text: str) -> None:
        now = time.perf_counter()
        print(f"  {now - self.started:8.2f} s  {self.text} (peak {peak_bytes() / 2**30:.2f} GiB)")
        self.started, self.text = now, text


def blend(run: Location) -> int:
    """In this process: prints phases and peak memory; the exit status."""
    print(f"  {peak_bytes() / 2**30:.2f} GiB after the imports")
    started, phases = time.perf_counter(), Phases()
    fitted = blend_run(run, SETTINGS, n_folds=FOLDS, progress=phases)
    phases("")
    found, peak = fitted.blend, peak_bytes()
    print(f"  {time.perf_counter() - started:8.2f} s  in all")
    print(
        f"{found.method} of {len(found.members)} members, {len(found.used_members)} with weight: "
        f"nested log loss {found.score.value:.5f} ({found.score.low:.5f} to "
        f"{found.score.high:.5f}), best single {found.nested.best_single.value:.5f}"
    )
    for method in found.methods:
        print(f"  {method.name}: nested {method.nested:.5f}, in-sample {method.in_sample:.5f}")
    verdict = "within" if peak <= LIMIT_BYTES else "ABOVE"
    print(f"peak memory {peak / 2**30:.2f} GiB: {verdict} {LIMIT_BYTES / 2**30:.0f} GiB")
    return int(peak > LIMIT_BYTES)


def peak_bytes() -> int:
    """The most that this process ever held."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("/proc/self/status does not tell VmHWM: this benchmark needs Linux")
    return 1024 * int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, help="where the store stays, to be used again")
    parser.add_argument("--blend", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.blend:
        sys.exit(blend(Location.of(asked.blend)))
    if asked.directory:
        asked.directory.mkdir(parents=True, exist_ok=True)
        sys.exit(measure(asked.directory, asked.members, asked.rows))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(measure(Path(folder), asked.members, asked.rows))


def measure(folder: Path, members: int, rows: int) -> int:
    """Writes the store unless it is there already, and blends it in a process of its own."""
    run = folder / f"{members}x{rows}"
    if not (run / "complete").exists():
        started = time.perf_counter()
        run.mkdir(exist_ok=True)
        write_store(Location.of(run), members, rows)
        (run / "complete").touch()
        print(f"{time.perf_counter() - started:.0f} s for writing", end=" ")
    size = sum(file.stat().st_size for file in run.rglob("*.parquet"))
    print(f"{members:,} members x {rows:,} rows x {len(CLASSES)} classes: {size / 1e6:,.0f} MB")
    sys.stdout.flush()
    return subprocess.run([sys.executable, __file__, "--blend", str(run)], check=False).returncode


if __name__ == "__main__":
    main()
