"""Where a run's files lie, for everything that a fold run reads or writes.

`tuner/run_directory.py` adds the files that only the search itself touches.
"""

from __future__ import annotations

from dataclasses import dataclass

from ensemble.files import Location


@dataclass(frozen=True)
class RunPaths:
    """Names inside one run directory; `root` may be local or on an object store."""

    root: Location

    @property
    def run_yaml(self) -> Location:
        return self.root / "run.yaml"

    @property
    def folds(self) -> Location:
        return self.root / "folds.parquet"

    @property
    def test_table(self) -> Location:
        return self.root / "test.parquet"

    @property
    def blend(self) -> Location:
        return self.root / "blend.json"

    def weights(self, config_id: str, fold: int) -> Location:
        return self.root / "weights" / config_id / f"fold={fold}" / "model.safetensors"

    def checkpoint_folder(self, config_id: str, fold: int) -> Location:
        return self.root / "checkpoints" / config_id / f"fold={fold}"

    def checkpoint(self, config_id: str, fold: int) -> Location:
        return self.checkpoint_folder(config_id, fold) / "last.pt"
