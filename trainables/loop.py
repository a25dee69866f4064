"""One fold of one configuration: a plain PyTorch loop, as a generator of epoch results.

It knows no Ray. After the last epoch it writes weights, test probabilities and, last of all, the
out-of-fold rows: a fold run whose out-of-fold file is present is complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.files import Location
from ensemble.metrics import METRICS, get_metric
from ensemble.predictions import Predictions
from ensemble.store import Kind, OofStore, StoreMetadata, read_predictions, write_predictions
from trainables.augment import TrainTransform, evaluation_transform
from trainables.backbone import build_backbone
from trainables.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, unreported
from trainables.failure import DivergedError
from trainables.loader import TrainBatches, TrainLoader, evaluation_batches, to_input
from trainables.losses import build_loss
from trainables.optim import build_optimizer, build_schedule
from trainables.precision import FULL, choose_precision, exact_arithmetic
from trainables.predict import predict_probabilities
from trainables.run_data import RunData
from trainables.run_paths import RunPaths
from trainables.seeds import derive_seed
from trainables.task import EpochResult, FoldTask
from trainables.weights import copy_of, save_weights

# Without gradients, what fits in memory in training fits several times over.
EVALUATION_FACTOR = 2
# Not stored with the predictions: the same fold run has to give the same file, byte for byte.
WALL_CLOCK = ("seconds", "images_per_second")


def run_fold(
    task: FoldTask, data: RunData, device: torch.device | None = None
) -> Iterator[EpochResult]:
    """Train `task` epoch by epoch, from its checkpoint where there is one.

    Yields an EpochResult after every epoch that was not reported before; the last has `done` set
    and comes after every file is complete. A fold run that is complete on disk is only reported."""
    finished = stored_result(task)
    if finished is not None:
        # Left where a kill came between the last file and this.
        _paths(task).checkpoint_folder(task.config_id, task.fold).delete()
        yield finished
        return
    run = FoldRun(task, data, device or default_device())
    yield from unreported(run.restore(), task.reported_epochs)
    while run.epoch < run.epochs:
        result = run.next_epoch()
        if result.done or result.epoch > task.reported_epochs:
            yield result


def stored_result(task: FoldTask) -> EpochResult | None:
    """The result of a fold run whose files are complete, else None."""
    store = OofStore(Location.of(task.run))
    if not store.has("oof", task.config_id, task.fold):
        return None
    _, metadata = read_predictions(store.fold_location("oof", task.config_id, task.fold))
    return EpochResult(task.configuration.train.epochs, dict(metadata.metrics), done=True)


def _paths(task: FoldTask) -> RunPaths:
    return RunPaths(Location.of(task.run))


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class FoldRun:
    """The moving parts of one fold run: model, optimizer, schedule and where they stand."""

    def __init__(self, task: FoldTask, data: RunData, device: torch.device) -> None:
        torch.set_num_threads(task.threads)
        self.task, self.data, self.device = task, data, device
        configuration = task.configuration
        self.train = configuration.train
        self.epochs, self.epoch = self.train.epochs, 0
        self.paths = _paths(task)
        self.n_classes = len(data.record.classes)
        self.train_rows = data.folds.train_rows(task.fold)
        self.validation_rows = data.folds.validation_rows(task.fold)
        self._seed_torch("init")
        backbone = build_backbone(configuration.backbone, self.n_classes, self.train.image_size)
        self.recipe = backbone.recipe
        self.model = backbone.model.to(device).to(memory_format=torch.channels_last)
        self.precision = choose_precision(self.train.precision, device)
        self.loss = build_loss(configuration.loss)
        self.loader = TrainLoader(self._batches(), data.record.config.data.workers)
        self.optimizer = build_optimizer(configuration.optimizer, self.model)
        self.schedule = build_schedule(
            configuration.schedule,
            self.optimizer,
            lr=configuration.optimizer.lr,
            total_steps=self.epochs * len(self.loader),
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision.needs_scaler)
        self.history: list[EpochResult] = []
        self.best_epoch = 0
        self.best_model: dict[str, Tensor] | None = None

    def restore(self) -> tuple[EpochResult, ...]:
        """Go back to the last checkpoint; returns the results computed until there."""
        stored = load_checkpoint(self.paths.checkpoint(self.task.config_id, self.task.fold))
        if stored is None:
            return ()
        self.epoch = stored.epoch
        self.model.load_state_dict(stored.model)
        self.optimizer.load_state_dict(stored.optimizer)
        self.schedule.load_state_dict(stored.schedule)
        self.scaler.load_state_dict(stored.scaler)
        self.history = list(stored.history)
        self.best_epoch, self.best_model = stored.best_epoch, stored.best_model
        return stored.history

    def next_epoch(self) -> EpochResult:
        """Train one epoch, validate, and write what must survive."""
        started = time.perf_counter()
        self.epoch += 1
        train_loss = self._train_epoch()
        seconds = time.perf_counter() - started
        proba = self._probabilities(self.validation_rows)
        metrics = {
            **self._scores(proba),
            "train_loss": train_loss,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "images_per_second": len(self.train_rows) / seconds,
            "seconds": time.perf_counter() - started,
        }
        result = EpochResult(self.epoch, metrics)
        self.history.append(result)
        self._keep_best(result)
        if self.epoch < self.epochs:
            self._checkpoint()
            return result
        return self._finish(proba)

    def _train_epoch(self) -> float:
        """One pass over the training rows; returns the mean loss."""
        self._seed_torch("epoch", self.epoch)
        self.model.train()
        first_step = (self.epoch - 1) * len(self.loader)
        losses = []
        for step, batch in enumerate(self.loader.epoch(self.epoch), start=first_step):
            images = to_input(batch.images, self.recipe.normalisation, self.device)
            labels = torch.from_numpy(batch.labels).to(self.device)
            self.schedule.step_update(step)
            losses.append(self._step(images, labels))
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise DivergedError(
                f"training loss is {mean} in epoch {self.epoch} "
                f"(lr {self.task.configuration.optimizer.lr:g}); a smaller lr may help"
            )
        return mean

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        with self.precision.autocast(self.device):
            loss = self.loss(self.model(images).float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.train.clip_grad:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.train.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _batches(self) -> TrainBatches:
        configuration = self.task.configuration
        return TrainBatches(
            self.data.cache,
            self.train_rows,
            self.data.folds.labels[self.train_rows],
            TrainTransform(configuration.augment, self.train.image_size),
            batch_size=self.train.batch_size,
            seed=self._seed("batches"),
        )

    def _probabilities(self, rows: np.ndarray, *, exact: bool = False) -> np.ndarray:
        """(len(rows), C) float32; `exact` computes in full float32 whatever training used, so
        that an exported model gives the same numbers on any machine."""
        with exact_arithmetic(exact):
            return predict_probabilities(
                self.model,
                evaluation_batches(
                    self.data.cache,
                    rows,
                    evaluation_transform(self.train.image_size),
                    EVALUATION_FACTOR * self.train.batch_size,
                ),
                self.recipe.normalisation,
                n_classes=self.n_classes,
                device=self.device,
                precision=FULL if exact else self.precision,
            )

    def _scores(self, proba: np.ndarray) -> dict[str, float]:
        if not np.isfinite(proba).all():
            raise DivergedError(
                f"validation probabilities are not finite in epoch {self.epoch} "
                f"(lr {self.task.configuration.optimizer.lr:g}); a smaller lr may help"
            )
        labels = self.data.folds.labels[self.validation_rows]
        return {name: float(metric(labels, proba)) for name, metric in METRICS.items()}

    def _keep_best(self, result: EpochResult) -> None:
        if self.train.keep != "best":
            return
        metric = get_metric(self.data.record.config.search.metric)
        best = next((r for r in self.history if r.epoch == self.best_epoch), None)
        if best is None or metric.better(result.metrics[metric.name], best.metrics[metric.name]):
            self.best_epoch, self.best_model = result.epoch, copy_of(self.model)

    def _checkpoint(self) -> None:
        save_checkpoint(
            self.paths.checkpoint(self.task.config_id, self.task.fold),
            Checkpoint(
                epoch=self.epoch,
                model=copy_of(self.model),
                optimizer=self.optimizer.state_dict(),
                schedule=self.schedule.state_dict(),
                scaler=self.scaler.state_dict(),
                history=tuple(self.history),
                best_epoch=self.best_epoch,
                best_model=self.best_model,
            ),
        )

    def _finish(self, last_proba: np.ndarray) -> EpochResult:
        """Write weights, test probabilities and out-of-fold rows, in this order."""
        chosen = self.history[-1]
        if self.best_model is not None and self.best_epoch != self.epoch:
            self.model.load_state_dict(self.best_model)
            chosen = self.history[self.best_epoch - 1]
        reuse = chosen is self.history[-1] and self.precision == FULL and self.device.type == "cpu"
        proba = last_proba if reuse else self._probabilities(self.validation_rows, exact=True)
        metrics = {**chosen.metrics, **self._scores(proba), "best_epoch": float(chosen.epoch)}
        location = self.paths.weights(self.task.config_id, self.task.fold)
        save_weights(location, self.model, self.recipe, self.task)
        self._write_test(metrics)
        self._write("oof", self._oof(proba), metrics)
        self.paths.checkpoint_folder(self.task.config_id, self.task.fold).delete()
        return EpochResult(self.epoch, metrics, done=True)

    def _oof(self, proba: np.ndarray) -> Predictions:
        folds = self.data.folds
        rows = self.validation_rows
        return Predictions(
            ids=np.asarray(folds.ids, dtype=object)[rows],
            labels=folds.labels[rows].astype(np.int32),
            folds=np.full(len(rows), self.task.fold, np.int16),
            proba=proba,
        )

    def _write_test(self, metrics: Mapping[str, float]) -> None:
        if self.data.test is None:
            return
        n = len(self.data.test.ids)
        predictions = Predictions(
            ids=np.asarray(self.data.test.ids, dtype=object),
            labels=np.full(n, -1, np.int32),
            folds=np.full(n, self.task.fold, np.int16),
            proba=self._probabilities(np.arange(n) + self.data.n_train, exact=True),
        )
        self._write("test", predictions, metrics)

    def _write(self, kind: Kind, predictions: Predictions, metrics: Mapping[str, float]) -> None:
        metadata = StoreMetadata(
            classes=self.data.record.classes,
            config_id=self.task.config_id,
            configuration=self.task.configuration.model_dump(mode="json"),
            metrics={key: metrics[key] for key in metrics if key not in WALL_CLOCK},
            data_fingerprint=self.data.record.data_fingerprint,
        )
        store = OofStore(self.paths.root)
        location = store.fold_location(kind, self.task.config_id, self.task.fold)
        write_predictions(location, predictions, metadata)

    def _seed(self, *parts: object) -> int:
        seed = self.data.record.config.seed
        return derive_seed(seed, self.task.config_id, self.task.fold, *parts)

    def _seed_torch(self, *parts: object) -> None:
        torch.manual_seed(self._seed(*parts))
