"""A run whose folds are trained and blended: what an export begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ensemble.blend import BlendSettings
from ensemble.blend_value import Blend, write_blend
from ensemble.combine import Combination
from ensemble.run import blend_run
from search_spaces.config import Configuration
from tests.trainables.tiny_run import TinyRun, changed

# By weight. The vision transformer sees images larger than they are stored.
WEIGHTS = (0.6, 0.4, 0.0)
TEMPERATURES = (1.3, 0.8, 1.0)


@dataclass(frozen=True)
class BlendedRun:
    """`members`: a ResNet, a vision transformer at 64 px, and one that the blend does not use."""

    run: TinyRun
    blend: Blend
    members: tuple[Configuration, ...]

    def stored_blend(self) -> np.ndarray:
        """(N, C): the blend of the stored test probabilities, in the order of the test table."""
        used = [one.config_id for one in self.blend.used_members]
        predictions = self.blend.predict({name: self.run.store.read_test(name) for name in used})
        assert self.run.data.test is not None
        return predictions.aligned_to(self.run.data.test.ids).proba


def blend_tiny_run(run: TinyRun) -> BlendedRun:
    """Train three configurations on all folds and weigh them by hand, so that no training decides
    what a test sees."""
    first = changed(run.configuration, train={"epochs": 1})
    members = (
        first,
        changed(first, backbone={"name": "test_vit"}, train={"image_size": 64}),
        changed(first, optimizer={"lr": 0.001}),
    )
    for member in members:
        for fold in range(3):
            run.finish(run.task(fold, member))
    settings = BlendSettings(bootstrap=0, methods=("equal",))
    blend = blend_run(run.paths.root, settings, n_folds=3).blend
    by_id = {one.config_id: one for one in blend.members}
    weighed = tuple(
        replace(by_id[member.config_id], weight=weight, temperature=temperature)
        for member, weight, temperature in zip(members, WEIGHTS, TEMPERATURES, strict=True)
    )
    blend = replace(blend, members=weighed, combination=Combination("mean", np.array(WEIGHTS)))
    write_blend(run.paths.blend, blend)
    return BlendedRun(run, blend, members)
