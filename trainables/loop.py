"""One fold of one configuration: a plain PyTorch loop, as a generator of epoch results.

It knows no Ray. What it leaves is written by `fold_files.py`, the out-of-fold rows last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.metrics import METRICS, get_metric
from trainables.averaging import (
    build_averager,
    held_batch_norms,
    recompute_batch_norm,
    snapshot_epochs,
)
from trainables.backbone import build_backbone
from trainables.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, unreported
from trainables.dataset_statistics import dataset_normalisation
from trainables.evaluation import Evaluation
from trainables.failure import DivergedError
from trainables.fold_files import FoldFiles, paths_of, stored_result
from trainables.freezing import apply_freezing, trainable_stages
from trainables.loader import TrainLoader
from trainables.losses import build_loss
from trainables.memory import halved_until_it_fits
from trainables.optim import build_optimizer
from trainables.precision import FULL, choose_precision, fast_products
from trainables.run_data import RunData
from trainables.schedules import build_schedule
from trainables.seeds import derive_seed
from trainables.step import Stepper
from trainables.task import EpochResult, FoldTask
from trainables.train_batches import Augmentation, TrainBatches
from trainables.weights import copy_of


def run_fold(
    task: FoldTask,
    data: RunData,
    device: torch.device | None = None,
    cores: int | None = None,
) -> Iterator[EpochResult]:
    """Train `task` epoch by epoch, from its checkpoint where there is one. `device`: None for a GPU
    where there is one; `cores`: that may prepare batches for it, None for all.

    Yields an EpochResult after every epoch that was not reported before; the last has `done` set
    and comes after every file is complete. A fold run that is complete on disk is only reported."""
    finished = stored_result(task)
    if finished is not None:
        # Left where a kill came between the last file and this.
        paths_of(task).checkpoint_folder(task.config_id, task.fold).delete()
        yield finished
        return
    run = FoldRun(task, data, device or default_device(), cores)
    yield from unreported(run.restore(), task.reported_epochs)
    while not run.is_over:
        result = run.next_epoch()
        if result.done or result.epoch > task.reported_epochs:
            yield result


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class FoldRun:
    """The moving parts of one fold run: model, optimizer, schedule and where they stand."""

    def __init__(
        self, task: FoldTask, data: RunData, device: torch.device, cores: int | None = None
    ) -> None:
        torch.set_num_threads(task.threads)
        self.task, self.data, self.device, self.cores = task, data, device, cores
        configuration = task.configuration
        self.train = configuration.train
        self.epochs, self.epoch, self.is_over = self.train.epochs, 0, False
        self.paths = paths_of(task)
        self.train_rows = data.folds.train_rows(task.fold)
        self.validation_rows = data.folds.validation_rows(task.fold)
        self._build_model()
        self.precision = choose_precision(self.train.precision, device)
        fast_products(self.train.tf32)
        self._build_loader()
        self._build_optimizer()
        self.evaluation = Evaluation(
            configuration,
            data,
            task.fold,
            normalisation=self.recipe.normalisation,
            device=device,
        )
        self.snapshots = snapshot_epochs(configuration.averaging, self.epochs)
        self.history: list[EpochResult] = []
        self.best_epoch = 0
        self.best_model: dict[str, Tensor] | None = None

    def _build_model(self) -> None:
        configuration, data = self.task.configuration, self.data
        self._seed_torch("init")
        backbone = build_backbone(
            configuration.backbone,
            len(data.record.classes),
            self.train.image_size,
            loss=configuration.loss,
            fold=self.task.fold,
            folds=data.folds,
            normalisation=dataset_normalisation(data, configuration.preprocess),
        )
        self.recipe = backbone.recipe
        layout = torch.channels_last if self.train.channels_last else torch.contiguous_format
        self.model = backbone.model.to(self.device).to(memory_format=layout)
        self.stages = trainable_stages(self.model)
        self._evaluated: nn.Module | None = None
        self._held: frozenset[str] = frozenset()

    def _build_loader(self) -> None:
        configuration, config = self.task.configuration, self.data.record.config
        how = Augmentation(
            configuration.augment,
            configuration.preprocess,
            self.train.image_size,
            self.recipe.normalisation,
            on_device=self.device.type != "cpu",
            threads=self.task.threads,
            channels_last=self.train.channels_last,
        )
        batches = TrainBatches(
            self.data.cache_of(configuration.preprocess),
            self.train_rows,
            self.data.folds.labels[self.train_rows],
            how,
            batch_size=self.train.batch_size,
            seed=self._seed("batches"),
        )
        self.loader = TrainLoader(
            batches,
            how,
            n_classes=len(self.data.record.classes),
            device=self.device,
            workers=config.data.workers,
            cores=self.cores,
        )

    def _build_optimizer(self) -> None:
        configuration = self.task.configuration
        labels, n_classes = self.data.folds.labels[self.train_rows], len(self.data.record.classes)
        self.optimizer = build_optimizer(
            configuration.optimizer, self.model, layer_decay=configuration.backbone.layer_decay
        )
        self.schedule = build_schedule(
            configuration.schedule,
            self.optimizer,
            lr=configuration.optimizer.lr,
            total_steps=self.epochs * len(self.loader),
            steps_per_epoch=len(self.loader),
        )
        self.averager = build_averager(configuration.averaging, self.model)
        forward: Callable[[Tensor], Tensor] = self.model
        if self.train.compile:
            # It counts the models of a process that were compiled, and stops after a few.
            torch._dynamo.reset()
            forward = torch.compile(self.model)
        self.stepper = Stepper(
            self.model,
            forward,
            build_loss(configuration.loss, np.bincount(labels, minlength=n_classes)),
            self.optimizer,
            train=self.train,
            penalties=configuration.optimizer,
            precision=self.precision,
            device=self.device,
        )

    def restore(self) -> tuple[EpochResult, ...]:
        """Go back to the last checkpoint; returns the results computed until there."""
        stored = load_checkpoint(self.paths.checkpoint(self.task.config_id, self.task.fold))
        if stored is None:
            return ()
        self.epoch = stored.epoch
        self.model.load_state_dict(stored.model)
        self.optimizer.load_state_dict(stored.optimizer)
        self.schedule.load_state_dict(stored.schedule)
        if stored.scaler:  # none where another machine's GPU computed in bf16
            self.stepper.scaler.load_state_dict(stored.scaler)
        if self.averager is not None and stored.averager is not None:
            self.averager.load_state_dict(stored.averager)
        self.stepper.micro_batch = stored.micro_batch or self.stepper.micro_batch
        self.history = list(stored.history)
        self.best_epoch, self.best_model = stored.best_epoch, stored.best_model
        return stored.history

    def next_epoch(self) -> EpochResult:
        """Train one epoch, validate, and write what must survive."""
        started = time.perf_counter()
        self.epoch += 1
        train_loss = self._train_epoch()
        seconds = time.perf_counter() - started
        self._average_epoch()
        proba = self.evaluation.validation(self._model_to_evaluate(), self.precision)
        metrics = {
            **self._scores(proba),
            "train_loss": train_loss,
            "lr": max(float(group["lr"]) for group in self.optimizer.param_groups),
            "images_per_second": len(self.train_rows) / seconds,
            "seconds": time.perf_counter() - started,
            "micro_batch": float(self.stepper.micro_batch),
            "loader_workers": float(self.loader.settings.workers),
            **self._memory_used(),
        }
        self.schedule.epoch_end(train_loss)
        result = EpochResult(self.epoch, metrics)
        self.history.append(result)
        self._keep_best(result)
        if self.epoch == self.epochs or self._is_out_of_patience():
            return self._finish(proba)
        self._write_snapshot(result)
        self._checkpoint()
        return result

    def _memory_used(self) -> dict[str, float]:
        """The most that tensors took on the GPU since this was asked last; nothing on a CPU."""
        if self.device.type != "cuda":
            return {}
        most = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return {"gpu_memory_bytes": float(most)}

    def _train_epoch(self) -> float:
        """One pass over the training rows; returns the mean loss."""
        self._seed_torch("epoch", self.epoch)
        self.model.train()
        apply_freezing(self.model, self.stages, self.task.configuration.backbone, self.epoch)
        self.loader.at_most(self.stepper.micro_batch)
        first_step = (self.epoch - 1) * len(self.loader)
        losses = []
        for step, (inputs, targets) in enumerate(self.loader.epoch(self.epoch), start=first_step):
            self.schedule.step_update(step)
            losses.append(self.stepper.step(inputs, targets, self._seed("step", step)))
            if self.averager is not None:
                self.averager.after_step(self.model, step)
        self._held = held_batch_norms(self.model)
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise DivergedError(
                f"training loss is {mean} in epoch {self.epoch} "
                f"(lr {self.task.configuration.optimizer.lr:g}); a smaller lr may help"
            )
        return mean

    def _average_epoch(self) -> None:
        if self.averager is not None:
            self.averager.after_epoch(self.model, self.epoch, self.epochs)

    @property
    def _measures_batch_norm_anew(self) -> bool:
        """Whether what is stored is not what was shown after the epoch: the weights of SWA are
        averaged over epochs, so the statistics of batch norm fit none of them."""
        return self.task.configuration.averaging.name == "swa"

    def _model_to_evaluate(self, *, final: bool = False) -> nn.Module:
        """The model itself, or one that bears the averaged weights. `final`: with the statistics
        of batch norm measured anew where an average of weights has none of its own."""
        state = None if self.averager is None else self.averager.averaged_state()
        if state is None:
            return self.model
        if self._measures_batch_norm_anew and not final:
            return self.model  # a pass over all training images: only once, at the end
        if self._evaluated is None:
            self._evaluated = self._twin()
        self._evaluated.load_state_dict(state)
        if self._measures_batch_norm_anew:
            self._measure_batch_norm(self._evaluated)
        return self._evaluated

    def _measure_batch_norm(self, model: nn.Module) -> None:
        """Over whole batches, as far as memory goes: parts have statistics a little different."""

        def measure(at_once: int) -> None:
            # The images of an epoch that is never trained on.
            batches = (inputs for inputs, _ in self.loader.epoch(self.epochs + 1))
            recompute_batch_norm(model, batches, self.device, held=self._held, at_once=at_once)

        # A last batch may have one row more.
        halved_until_it_fits(measure, self.train.batch_size + 1, self.device, least=2)

    def _twin(self) -> nn.Module:
        """Another model of the same kind, whose weights are nobody's."""
        return deepcopy(self.model).requires_grad_(False)

    def _scores(self, proba: np.ndarray) -> dict[str, float]:
        if not np.isfinite(proba).all():
            raise DivergedError(
                f"validation probabilities are not finite in epoch {self.epoch} "
                f"(lr {self.task.configuration.optimizer.lr:g}); a smaller lr may help"
            )
        labels = self.data.folds.labels[self.validation_rows]
        return {name: float(metric(labels, proba)) for name, metric in METRICS.items()}

    def _keep_best(self, result: EpochResult) -> None:
        if not self.train.is_optimistic:
            return
        metric = get_metric(self.data.record.config.search.metric)
        best = next((r for r in self.history if r.epoch == self.best_epoch), None)
        if best is None or metric.better(result.metrics[metric.name], best.metrics[metric.name]):
            self.best_epoch = result.epoch
            if self.train.keep == "best":
                self.best_model = copy_of(self._model_to_evaluate())

    def _is_out_of_patience(self) -> bool:
        patience = self.train.patience
        return bool(patience) and self.epoch - self.best_epoch >= patience

    def _checkpoint(self) -> None:
        save_checkpoint(
            self.paths.checkpoint(self.task.config_id, self.task.fold),
            Checkpoint(
                epoch=self.epoch,
                model=copy_of(self.model),
                optimizer=self.optimizer.state_dict(),
                schedule=self.schedule.state_dict(),
                scaler=self.stepper.scaler.state_dict(),
                history=tuple(self.history),
                best_epoch=self.best_epoch,
                best_model=self.best_model,
                averager=None if self.averager is None else self.averager.state_dict(),
                micro_batch=self.stepper.micro_batch,
            ),
        )

    def _write_snapshot(self, result: EpochResult) -> None:
        """A point of the run that is a member of its own. Written before the checkpoint: after a
        kill in between, the epoch is trained again and the same file written again."""
        number = self.snapshots.get(self.epoch, 0)
        if number:
            configuration = self.task.configuration.at_snapshot(number)
            self._write(self.task.of(configuration), self._model_to_evaluate(final=True), result)

    def _finish(self, last_proba: np.ndarray) -> EpochResult:
        """Write weights, test probabilities and out-of-fold rows, in this order."""
        chosen = self.history[-1]
        known: np.ndarray | None = None
        if self.best_model is not None and self.best_epoch != self.epoch:
            self.model.load_state_dict(self.best_model)
            chosen, model = self.history[self.best_epoch - 1], self.model
        else:
            model = self._model_to_evaluate(final=True)
            known = last_proba if self._is_stored_as_shown else None
        metrics = self._write(self.task, model, chosen, known)
        self.paths.checkpoint_folder(self.task.config_id, self.task.fold).delete()
        self.is_over = True
        return EpochResult(self.epoch, metrics, done=True)

    @property
    def _is_stored_as_shown(self) -> bool:
        """Whether validation after the last epoch gave what is stored: the same weights and
        statistics, one view, full float32."""
        exact = self.precision == FULL and self.device.type == "cpu"
        return exact and self.evaluation.is_one_view and not self._measures_batch_norm_anew

    def _write(
        self,
        task: FoldTask,
        model: nn.Module,
        chosen: EpochResult,
        known: np.ndarray | None = None,
    ) -> dict[str, float]:
        """The files of `model` as it was after the epoch `chosen`; returns its metrics. `known`:
        the out-of-fold rows, where they were predicted already."""
        proba = self.evaluation.out_of_fold(model) if known is None else known
        metrics = {
            **chosen.metrics,
            **self._scores(proba),
            "best_epoch": float(chosen.epoch),
            "epochs": float(self.epoch),
        }
        test = self.evaluation.test(model)
        FoldFiles(task, self.data).write(model, self.recipe, proba, test, metrics)
        return metrics

    def _seed(self, *parts: object) -> int:
        seed = self.data.record.config.seed
        return derive_seed(seed, self.task.config_id, self.task.fold, *parts)

    def _seed_torch(self, *parts: object) -> None:
        torch.manual_seed(self._seed(*parts))
