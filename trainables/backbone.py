"""The model of a configuration: a plain timm model, or one or two of them under a head of ours.

One backbone with a linear classifier stays timm's own model, so that its weights load into stock
timm. Two backbones, or a loss with a margin, make a `ComposedModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import timm
from torch import Tensor, nn

from search_spaces.config import BackboneConfig, LossConfig
from trainables.composed import ComposedModel, CosineClassifier, n_features
from trainables.earlier_run import (
    EarlierFold,
    check_same_folds,
    earlier_fold,
    kept_its_best_epoch,
    split_folder,
)
from trainables.errors import DataError
from trainables.folds import FoldTable
from trainables.recipe import BackboneError, HeadKind, Normalisation, Part, Recipe, one_line
from trainables.starting_weights import refuse_weights_of_a_fold
from trainables.timm_models import (
    NAME,
    NOT_IN_TIMM,
    SECOND,
    WEIGHTS_KEYS,
    Earlier,
    Wanted,
    build_timm_model,
    check_backbone_name,
    check_hub_weights,
    folder_of,
    normalisation_of,
    rebuild_part,
    weights_file,
)

__all__ = [
    "Backbone",
    "BackboneError",
    "Normalisation",
    "Recipe",
    "build_backbone",
    "check_backbone",
    "check_backbone_name",
    "check_earlier_runs",
    "check_hub_weights",
    "normalisation_of",
    "rebuild",
]

FROM_RUN_KEYS = {NAME: "backbone.from_run", SECOND: "backbone.second_from_run"}


@dataclass(frozen=True)
class Backbone:
    """A model, and how it is built again."""

    model: nn.Module
    recipe: Recipe


@dataclass(frozen=True)
class _Source:
    """Where one of the two models comes from, and under which key of the configuration."""

    key: str
    name: str
    weights: str | None
    from_run: str | None


def build_backbone(
    config: BackboneConfig,
    n_classes: int,
    image_size: int,
    *,
    loss: LossConfig | None = None,
    fold: int = 0,
    folds: FoldTable | None = None,
    normalisation: Normalisation | None = None,
) -> Backbone:
    """A model with `n_classes` outputs, weights loaded where asked. Its head is fresh unless the
    weights have as many classes.

    A `loss` with a margin makes a cosine head. `fold` and `folds` (the run's own) are needed where
    the configuration starts from an earlier run. `normalisation`: that of the data set, instead of
    the models' own. Raises BackboneError for an unknown name, weights that do not fit, weights of a
    fold run that do not come by `from_run`, a hub out of reach, or an earlier run with other
    folds."""
    earlier = _earlier_folds(config, fold, folds)
    if config.second is None and not (loss and loss.has_margin):
        built = _build_plain(config, n_classes, image_size, earlier)
    else:
        built = _build_composed(config, n_classes, image_size, loss, earlier, normalisation)
    if normalisation:
        built = replace(built, recipe=replace(built.recipe, normalisation=normalisation))
    for source in _sources(config):  # by now what the hub sent is here too
        _refuse_weights_of_folds(source, config)
    if config.grad_checkpointing:
        _checkpoint_gradients(built.model, config)
    return built


def rebuild(recipe: Recipe, n_classes: int) -> nn.Module:
    """The model of a recipe with fresh weights. Asks neither hub nor folder: the architectures have
    to be timm's own, else BackboneError. What joins two backbones comes with their weights."""
    if recipe.is_plain:
        return rebuild_part(recipe.parts[0], n_classes)
    backbones = [rebuild_part(part, 0) for part in recipe.parts]
    head = _head(recipe.head, n_features(backbones), n_classes, recipe.scale)
    return ComposedModel(backbones, head)


def check_backbone(config: BackboneConfig, timeout_seconds: float = 5.0) -> None:
    """Raises BackboneError at once for what would fail when the model is built: an unknown name,
    weights that are neither cached nor in reach, a folder without a file for the model, weights of
    a fold run that do not come by `from_run`, or a `from_run` that is no such folder."""
    for source in _sources(config):
        check_backbone_name(source.name, key=source.key)
        if source.from_run:
            split_folder(source.from_run, FROM_RUN_KEYS[source.key])
        elif config.pretrained and not source.weights:
            check_hub_weights(source.name, timeout_seconds, key=source.key)
        _refuse_weights_of_folds(source, config)


def _refuse_weights_of_folds(source: _Source, config: BackboneConfig) -> None:
    """Whatever one backbone starts from, if not from an earlier run fold by fold."""
    way = FROM_RUN_KEYS[source.key]
    if source.from_run:
        return
    if source.weights:
        said = f"{WEIGHTS_KEYS[source.key]}={source.weights}"
        refuse_weights_of_a_fold(weights_file(source.name, source.weights, source.key), said, way)
    elif config.pretrained and (folder := folder_of(source.name)):
        for file in sorted(folder.glob("*.safetensors")):
            refuse_weights_of_a_fold(file, f"{source.key}={source.name}", way)


def check_earlier_runs(config: BackboneConfig, folds: FoldTable) -> None:
    """Raises BackboneError where the configuration starts from a run with other folds."""
    for source in _sources(config):
        if source.from_run:
            key = FROM_RUN_KEYS[source.key]
            run, _ = split_folder(source.from_run, key)
            try:
                check_same_folds(folds, run)
            except DataError as error:
                raise BackboneError(f"{key}={source.from_run}: {error}") from error


def optimism_of_earlier_runs(config: BackboneConfig) -> tuple[str, ...]:
    """One line for each earlier configuration that this one starts from and whose epoch validation
    labels chose."""
    return tuple(
        f"{FROM_RUN_KEYS[source.key]}={source.from_run}: its epoch was chosen on the validation "
        "folds (keep: best or patience), so scores of what starts from it are optimistic too"
        for source in _sources(config)
        if source.from_run and kept_its_best_epoch(source.from_run, FROM_RUN_KEYS[source.key])
    )


def _sources(config: BackboneConfig) -> tuple[_Source, ...]:
    first = _Source(NAME, config.name, config.weights, config.from_run)
    if config.second is None:
        return (first,)
    return first, _Source(SECOND, config.second, config.second_weights, config.second_from_run)


def _earlier_folds(
    config: BackboneConfig, fold: int, folds: FoldTable | None
) -> tuple[EarlierFold | None, ...]:
    """What each backbone starts from, None where that is no earlier run."""
    found: list[EarlierFold | None] = []
    for source in _sources(config):
        if source.from_run is None:
            found.append(None)
            continue
        if folds is None:
            raise ValueError(f"{FROM_RUN_KEYS[source.key]}: the run's fold table is needed")
        found.append(earlier_fold(source.from_run, fold, folds, FROM_RUN_KEYS[source.key]))
    return tuple(found)


def _build_plain(
    config: BackboneConfig,
    n_classes: int,
    image_size: int,
    earlier: tuple[EarlierFold | None, ...],
) -> Backbone:
    (source,) = _sources(config)
    wanted = _wanted(config, source, n_classes, image_size, earlier[0])
    model, part = build_timm_model(replace(wanted, drop_rate=config.drop_rate))
    return Backbone(model, Recipe(part.architecture, part.arguments, normalisation_of(model)))


def _build_composed(
    config: BackboneConfig,
    n_classes: int,
    image_size: int,
    loss: LossConfig | None,
    earlier: tuple[EarlierFold | None, ...],
    normalisation: Normalisation | None,
) -> Backbone:
    built = [
        build_timm_model(_wanted(config, source, 0, image_size, start))
        for source, start in zip(_sources(config), earlier, strict=True)
    ]
    backbones, parts = [model for model, _ in built], [part for _, part in built]
    kind: HeadKind = "cosine" if loss and loss.has_margin else "linear"
    scale = loss.scale if loss and loss.has_margin else 1.0
    head = _head(kind, n_features(backbones), n_classes, scale)
    own = [normalisation_of(backbone) for backbone in backbones]
    recipe = Recipe(
        parts[0].architecture,
        parts[0].arguments,
        own[0],
        second=parts[1] if len(parts) > 1 else None,
        head=kind,
        scale=scale,
    )
    model = ComposedModel(backbones, head, config.drop_rate)
    # The data set's own normalisation is one for all.
    model.set_normalisations(own if normalisation is None else [normalisation] * len(own))
    _load_earlier_head(head, recipe, earlier)
    return Backbone(model, recipe)


def _wanted(
    config: BackboneConfig,
    source: _Source,
    n_classes: int,
    image_size: int,
    earlier: EarlierFold | None,
) -> Wanted:
    return Wanted(
        name=source.name,
        n_classes=n_classes,
        image_size=image_size,
        pretrained=config.pretrained,
        weights=source.weights,
        earlier=None if earlier is None else _earlier_state(earlier, source),
        drop_path_rate=config.drop_path_rate,
        key=source.key,
    )


def _earlier_state(earlier: EarlierFold, source: _Source) -> Earlier:
    """The earlier weights of this backbone. A name outside of timm is taken at its only word: the
    first model of the earlier run."""
    architecture = source.name.partition(".")[0]
    if source.name.startswith(NOT_IN_TIMM):
        architecture = earlier.recipe.architecture
    key = FROM_RUN_KEYS[source.key]
    try:
        state = earlier.of_architecture(architecture)
    except BackboneError as error:
        raise BackboneError(f"{key}: {error}") from error
    return Earlier(state, f"{key}={earlier.location}")


def _head(kind: HeadKind, features: int, n_classes: int, scale: float) -> nn.Module:
    if kind == "cosine":
        return CosineClassifier(features, n_classes, scale)
    head = nn.Linear(features, n_classes)
    nn.init.zeros_(head.bias)
    return head


def _load_earlier_head(
    head: nn.Module, recipe: Recipe, earlier: tuple[EarlierFold | None, ...]
) -> None:
    """Take the classifier as well where all comes from one earlier model of the same make."""
    first = earlier[0]
    if first is None or any(one is None or one.location != first.location for one in earlier):
        return
    same_parts = _architectures(first.recipe.parts) == _architectures(recipe.parts)
    state = _without_prefix(first.state, "head.")
    own = {key: value.shape for key, value in head.state_dict().items()}
    fits = {key: value.shape for key, value in state.items()} == own
    if not first.recipe.is_plain and same_parts and first.recipe.head == recipe.head and fits:
        head.load_state_dict(dict(state))


def _architectures(parts: tuple[Part, ...]) -> tuple[str, ...]:
    return tuple(part.architecture for part in parts)


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _checkpoint_gradients(model: nn.Module, config: BackboneConfig) -> None:
    names = " and ".join(source.name for source in _sources(config))
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AssertionError, AttributeError, NotImplementedError, TypeError) as error:
        raise BackboneError(
            f"backbone.grad_checkpointing=true: timm {timm.__version__} cannot do that for {names} "
            f"({one_line(error)}); set it to false"
        ) from error
