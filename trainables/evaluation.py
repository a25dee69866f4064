"""The validation and test images of one fold run, and a model's probabilities for them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import nn

from search_spaces.config import Configuration
from trainables.memory import halved_until_it_fits
from trainables.precision import FULL, Precision, exact_arithmetic
from trainables.predict import predict_probabilities
from trainables.recipe import Normalisation
from trainables.run_data import RunData
from trainables.views import PLAIN, Shown, cached, replayed, view_batches

# Without gradients, what fits in memory in training fits several times over.
EVALUATION_FACTOR = 2
# Replayed images beyond this are made again for each epoch instead of being kept.
KEPT_BYTES = 2 << 30


class Evaluation:
    """Labelled rows are seen after the run's `replay` policy, test rows as they are; both after the
    configuration's preprocessing. When the device's memory runs out, the batch is halved, for all
    that follows too, and the prediction is done again."""

    def __init__(
        self,
        configuration: Configuration,
        data: RunData,
        fold: int,
        *,
        normalisation: Normalisation,
        device: torch.device,
    ) -> None:
        self._configuration, self._data = configuration, data
        self._rows = data.folds.validation_rows(fold)
        self._normalisation, self._device = normalisation, device
        self._source = data.cache_of(configuration.preprocess)
        train = configuration.train
        self._batch_size = EVALUATION_FACTOR * min(
            train.micro_batch or train.batch_size, train.batch_size
        )

    def validation(self, model: nn.Module, precision: Precision) -> np.ndarray:
        """(n, C) float32 of the held-out rows, one view each: a quick look after an epoch."""
        return self._predict(model, self._validation, precision, with_tta=False)

    def out_of_fold(self, model: nn.Module) -> np.ndarray:
        """(n, C) float32 of the held-out rows over all views, in full float32."""
        return self._predict(model, self._validation, FULL, with_tta=True)

    def test(self, model: nn.Module) -> np.ndarray | None:
        """(m, C) float32 of the test rows over all views, in full float32; None without any."""
        if self._data.test is None:
            return None
        return self._predict(model, self._test, FULL, with_tta=True)

    @property
    def is_one_view(self) -> bool:
        return self._configuration.tta.views == 1

    @property
    def _validation(self) -> Shown:
        if self._data.record.config.replay.changes_nothing:
            return self._shown
        side = self._configuration.train.image_size
        if len(self._rows) * side * side * 3 <= KEPT_BYTES:
            return self._replayed
        return self._replay()

    @cached_property
    def _shown(self) -> Shown:
        ids = [self._data.folds.ids[row] for row in self._rows]
        return cached(self._source, self._rows, ids, self._configuration.preprocess)

    @cached_property
    def _replayed(self) -> Shown:
        return self._replay()

    def _replay(self) -> Shown:
        config = self._data.record.config
        side = self._configuration.train.image_size
        return replayed(self._shown, config.replay, side, config.seed)

    @cached_property
    def _test(self) -> Shown:
        assert self._data.test is not None
        rows = np.arange(len(self._data.test.ids)) + self._data.n_train
        return cached(self._source, rows, self._data.test.ids, self._configuration.preprocess)

    def _predict(
        self, model: nn.Module, shown: Shown, precision: Precision, *, with_tta: bool
    ) -> np.ndarray:
        def predict(batch_size: int) -> np.ndarray:
            return self._predict_once(model, shown, precision, batch_size, with_tta=with_tta)

        size = min(self._batch_size, max(1, len(shown)))
        proba, fitted = halved_until_it_fits(predict, size, self._device)
        if fitted < size:
            self._batch_size = fitted
        return proba

    def _predict_once(
        self,
        model: nn.Module,
        shown: Shown,
        precision: Precision,
        batch_size: int,
        *,
        with_tta: bool,
    ) -> np.ndarray:
        configuration = self._configuration
        tta = configuration.tta if with_tta else PLAIN
        batches = view_batches(
            shown,
            configuration,
            tta,
            seed=self._data.record.config.seed,
            batch_size=batch_size,
        )
        with exact_arithmetic(precision == FULL):
            return predict_probabilities(
                model,
                batches,
                self._normalisation,
                n_classes=len(self._data.record.classes),
                device=self._device,
                precision=precision,
                average=tta.average,
                channels_last=configuration.train.channels_last,
            )
