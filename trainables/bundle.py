"""The bundle: what leaves the run directory. Weights, blend, preprocessing, classes, provenance.

    ensemble.json                                      everything but the weights
    members/<config_id>/fold=<k>/model.safetensors     one model a fold
    members/<config_id>/fold=<k>/config.json           so that stock timm loads the folder:
                                                       timm.create_model("local-dir:<folder>",
                                                       pretrained=True)

Two fused backbones and heads with a margin are no timm models and have no config.json; their keys
are timm's behind `backbones.0.` and `backbones.1.`, and `head.` (see docs/recipe.md).

Nothing in a bundle is executed or unpickled when it is loaded.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import timm
from torch import nn

from ensemble.blend_value import Blend, read_blend
from ensemble.errors import BlendError
from ensemble.files import Location
from ensemble.store import OofStore
from search_spaces.config import Configuration
from trainables.backbone import Recipe, rebuild
from trainables.errors import DataError
from trainables.run_data import RunRecord, read_record, submission_from
from trainables.run_paths import RunPaths
from trainables.submission import SubmissionFormat
from trainables.weights import load_weights, read_recipe

BUNDLE_VERSION = 1
BUNDLE_FILE = "ensemble.json"
WEIGHTS_FILE = "model.safetensors"
DECODING = (
    "RGB, EXIF orientation applied, squashed to cache_size, then denoise, clahe and grey of the "
    "configuration's preprocess, then its resize to image_size"
)
# timm's names for our ways to a square.
CROP_MODES = {"squash": "squash", "letterbox": "border", "crop": "center"}


@dataclass(frozen=True)
class BundleMember:
    """One member. `folds`: folders with a model each, relative to the bundle. Images are decoded,
    squashed to `cache_size` pixels square, brought to `image_size` as `configuration.preprocess`
    says, shown in the views of `configuration.tta`, and normalised as `recipe` says."""

    config_id: str
    configuration: Configuration
    recipe: Recipe
    folds: tuple[str, ...]
    cache_size: int
    image_size: int


@dataclass(frozen=True)
class Bundle:
    """`ensemble.json` as a value. `blend` and its scores are those before rules, which a bundle
    does not apply: they name images of the run by their ids. `provenance["notes"]` says what a
    person should know of it."""

    classes: tuple[str, ...]
    label_values: tuple[str, ...]
    members: tuple[BundleMember, ...]
    blend: Blend
    submission: SubmissionFormat | None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def size_bytes(self, folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@dataclass(frozen=True)
class BundleFile:
    """`name`: its place in the bundle; `content`: the run's own file, or the bytes themselves."""

    name: str
    content: Location | bytes


def export_bundle(run: str, output: Path) -> Bundle:
    """Write the members with a non-zero weight of the run's `blend.json` to a new folder.

    Written beside and renamed: a folder that is there is complete. DataError where `output`
    exists or the run has no blend."""
    if output.exists():
        raise DataError(f"{output}: exists already; choose another folder or remove it")
    bundle, files = bundle_files(run)
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)  # left by an export that was killed
    try:
        for file in files:
            content = file.content
            data = content if isinstance(content, bytes) else content.read_bytes()
            Location.of(aside / file.name).write_bytes(data)
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return bundle


def bundle_files(run: str) -> tuple[Bundle, tuple[BundleFile, ...]]:
    """The bundle of a run's `blend.json` and every file of it, `ensemble.json` last; nothing is
    written. DataError where the run has no blend, or weights of a member are missing."""
    paths = RunPaths(Location.of(run))
    record, raw = read_record(paths)
    if not paths.blend.exists():
        raise DataError(
            f"{paths.blend}: not there yet; run `foldblend blend {shlex.quote(run)}` first"
        )
    fitted = read_blend(paths.blend)
    blend = _without_rules(fitted, run)
    members, files = [], []
    for one in blend.used_members:
        member, of_member = _member_files(paths, record, one.config_id)
        members.append(member)
        files += of_member
    bundle = Bundle(
        classes=record.classes,
        label_values=record.label_values,
        members=tuple(members),
        blend=blend,
        submission=record.submission,
        provenance=_provenance(paths, record, raw) | {"notes": _notes(paths, record, fitted)},
    )
    text = json.dumps(_to_dict(bundle), indent=2, ensure_ascii=False) + "\n"
    return bundle, (*files, BundleFile(BUNDLE_FILE, text.encode("utf-8")))


def read_bundle(folder: Path) -> Bundle:
    """DataError where `folder` is no bundle of a version known here."""
    file = folder / BUNDLE_FILE
    if not file.is_file():
        raise DataError(
            f"{folder}: not a bundle (it has no {BUNDLE_FILE}); make one with "
            "`foldblend export RUN -o FOLDER`"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(file, error) from error
    if version != BUNDLE_VERSION:
        raise DataError(
            f"{file}: a bundle of version {version}, this foldblend reads {BUNDLE_VERSION}; "
            "upgrade foldblend, or export the run again with this one"
        )
    try:
        return _from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(file, error) from error


def load_model(bundle: Bundle, member: BundleMember, folder: Path, fold: str) -> nn.Module:
    """One model of a member, in evaluation mode on the CPU. DataError where its weights are
    missing, ValueError where they are damaged."""
    weights = Location.of(folder / fold / WEIGHTS_FILE)
    if not weights.exists():
        raise DataError(f"{weights}: missing from the bundle; export the run again")
    model = rebuild(member.recipe, len(bundle.classes))
    load_weights(weights, model)
    return model.eval()


def _member_files(
    paths: RunPaths, record: RunRecord, config_id: str
) -> tuple[BundleMember, list[BundleFile]]:
    metadata = OofStore(paths.root).metadata(config_id)
    configuration = Configuration.model_validate(metadata.configuration)
    image_size = configuration.train.image_size
    folds, recipes, files = [], [], []
    for fold in range(record.config.folds.k):
        weights = paths.weights(config_id, fold)
        if not weights.exists():
            raise DataError(f"{weights}: missing; the member cannot be exported")
        recipe = read_recipe(weights)
        name = f"members/{config_id}/fold={fold}"
        files.append(BundleFile(f"{name}/{WEIGHTS_FILE}", weights))
        if recipe.is_plain:
            text = _timm_config(recipe, record.classes, configuration)
            files.append(BundleFile(f"{name}/config.json", text.encode("utf-8")))
        folds.append(name)
        recipes.append(recipe)
    if any(recipe != recipes[0] for recipe in recipes):
        raise DataError(f"configuration {config_id}: its folds hold different models")
    member = BundleMember(
        config_id=config_id,
        configuration=configuration,
        recipe=recipes[0],
        folds=tuple(folds),
        cache_size=record.cache_size,
        image_size=image_size,
    )
    return member, files


def _without_rules(blend: Blend, run: str) -> Blend:
    try:
        return blend.without_rules()
    except BlendError as error:
        raise DataError(
            f"{run}: {error} (`foldblend blend {shlex.quote(run)} --rules …`)"
        ) from error


def _notes(paths: RunPaths, record: RunRecord, blend: Blend) -> list[str]:
    notes = []
    if blend.rules:
        notes.append(
            f"the rules of {blend.rules.source} are not part of a bundle: its scores are those "
            f"before them (nested {blend.metric} {blend.without_rules().score.value:.4f})"
        )
    complete = OofStore(paths.root).complete_members(record.config.folds.k)
    since = sorted(set(complete) - {member.config_id for member in blend.members})
    if since:
        notes.append(
            f"complete members that the blend has not seen: {len(since)} (first {since[0]}); "
            "`foldblend blend` and another export take them in"
        )
    return notes


def _provenance(paths: RunPaths, record: RunRecord, raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": str(paths.root),
        "exported": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data_fingerprint": record.data_fingerprint,
        "seed": record.config.seed,
        "n_train": raw["data"]["n_train"],
        "versions": raw["versions"],
        "overrides": raw["overrides"],
    }


def _timm_config(recipe: Recipe, classes: Sequence[str], configuration: Configuration) -> str:
    """timm's own description of a model folder (`timm.models.load_model_config_from_hf`)."""
    image_size = configuration.train.image_size
    known = timm.get_pretrained_cfg(recipe.architecture)
    config = {
        "architecture": recipe.architecture,
        "num_classes": len(classes),
        "label_names": list(classes),
        "model_args": dict(recipe.arguments),
        "pretrained_cfg": {
            "num_classes": len(classes),
            "input_size": [3, image_size, image_size],
            "mean": list(recipe.normalisation.mean),
            "std": list(recipe.normalisation.std),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": CROP_MODES[configuration.preprocess.resize],
            # Where another number of classes needs another head, and other channels another stem.
            "classifier": known and known.classifier,
            "first_conv": known and known.first_conv,
        },
    }
    return json.dumps(config, indent=2) + "\n"


def _to_dict(bundle: Bundle) -> dict[str, Any]:
    return {
        "version": BUNDLE_VERSION,
        "classes": list(bundle.classes),
        "label_values": list(bundle.label_values),
        "members": [
            {
                "config_id": one.config_id,
                "folds": list(one.folds),
                "model": one.recipe.to_dict(),
                "preprocessing": {
                    "decode": DECODING,
                    "cache_size": one.cache_size,
                    "image_size": one.image_size,
                },
                "configuration": one.configuration.model_dump(mode="json"),
            }
            for one in bundle.members
        ],
        "blend": bundle.blend.to_dict(),
        "submission": asdict(bundle.submission) if bundle.submission else None,
        "provenance": dict(bundle.provenance),
    }


def _from_dict(values: Mapping[str, Any]) -> Bundle:
    return Bundle(
        classes=tuple(values["classes"]),
        label_values=tuple(values["label_values"]),
        members=tuple(_member_from_dict(one) for one in values["members"]),
        blend=Blend.from_dict(values["blend"]),
        submission=submission_from(values["submission"]),
        provenance=values["provenance"],
    )


def _member_from_dict(values: Mapping[str, Any]) -> BundleMember:
    return BundleMember(
        config_id=values["config_id"],
        configuration=Configuration.model_validate(values["configuration"]),
        recipe=Recipe.from_dict(values["model"]),
        folds=tuple(_inside(fold) for fold in values["folds"]),
        cache_size=int(values["preprocessing"]["cache_size"]),
        image_size=int(values["preprocessing"]["image_size"]),
    )


def _inside(folder: str) -> str:
    """A bundle may come from a stranger: it names nothing outside of itself."""
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the model folder {folder} is not in the bundle")
    return folder


def _unreadable(file: Path, error: Exception) -> DataError:
    line = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    return DataError(f"{file}: cannot be read as a bundle: {line[:200]}; export the run again")
