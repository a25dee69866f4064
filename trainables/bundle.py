"""The bundle: what leaves the run directory. Weights, blend, preprocessing, classes, provenance.

    ensemble.json                                      everything but the weights
    members/<config_id>/fold=<k>/model.safetensors     one model a fold
    members/<config_id>/fold=<k>/config.json           so that stock timm loads the folder:
                                                       timm.create_model("local-dir:<folder>",
                                                       pretrained=True)

Nothing in a bundle is executed or unpickled when it is loaded.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ensemble.blend_value import Blend, read_blend
from ensemble.files import Location
from ensemble.store import OofStore
from search_spaces.config import BackboneConfig, Configuration
from trainables.backbone import Normalisation, build_backbone, normalisation_of
from trainables.errors import DataError
from trainables.run_data import RunRecord, read_record
from trainables.run_paths import RunPaths
from trainables.submission import SubmissionFormat
from trainables.weights import load_weights

BUNDLE_VERSION = 1


@dataclass(frozen=True)
class BundleMember:
    """One member. `folds`: folders with a model each, relative to the bundle. Images are decoded,
    squashed to `cache_size` pixels square, resized to `image_size`, and normalised."""

    config_id: str
    configuration: Configuration
    folds: tuple[str, ...]
    cache_size: int
    image_size: int
    normalisation: Normalisation


@dataclass(frozen=True)
class Bundle:
    """`ensemble.json` as a value."""

    classes: tuple[str, ...]
    label_values: tuple[str, ...]
    members: tuple[BundleMember, ...]
    blend: Blend
    submission: SubmissionFormat | None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def size_bytes(self, folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def export_bundle(run: str, output: Path) -> Bundle:
    """Write the members with a non-zero weight of the run's `blend.json` to a new folder.

    Written beside and renamed: a folder that is there is complete. DataError where `output`
    exists or the run has no blend."""
    if output.exists():
        raise DataError(f"{output}: exists already; choose another folder or remove it")
    paths = RunPaths(Location.of(run))
    record, raw = read_record(paths)
    if not paths.blend.exists():
        raise DataError(f"{paths.blend}: not there yet; run `foldblend blend {run}` first")
    blend = read_blend(paths.blend)
    aside = output.with_name(f".{output.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        bundle = _write_members(paths, record, raw, blend, aside)
        (aside / "ensemble.json").write_text(json.dumps(_to_dict(bundle), indent=2) + "\n")
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return bundle


def read_bundle(folder: Path) -> Bundle:
    """DataError where `folder` is no bundle of a version known here."""
    file = folder / "ensemble.json"
    if not file.is_file():
        raise DataError(
            f"{folder}: not a bundle (it has no ensemble.json); make one with "
            "`foldblend export RUN -o FOLDER`"
        )
    try:
        values = json.loads(file.read_text())
        if values["version"] != BUNDLE_VERSION:
            raise ValueError(f"version {values['version']}, this foldblend reads {BUNDLE_VERSION}")
        return _from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: cannot be read: {line}; export the run again") from error


def load_model(bundle: Bundle, member: BundleMember, folder: Path, fold: str) -> nn.Module:
    """One model of a member, in evaluation mode on the CPU."""
    backbone = member.configuration.backbone.model_copy(
        update={"pretrained": False, "weights": None}
    )
    model = build_backbone(backbone, len(bundle.classes), member.image_size)
    weights = Location.of(folder / fold / "model.safetensors")
    if not weights.exists():
        raise DataError(f"{weights}: missing from the bundle; export the run again")
    load_weights(weights, model)
    return model.eval()


def _write_members(
    paths: RunPaths, record: RunRecord, raw: Mapping[str, Any], blend: Blend, aside: Path
) -> Bundle:
    members = tuple(
        _write_member(paths, record, one.config_id, aside)
        for one in blend.members
        if one.weight > 0
    )
    stored = raw["data"].get("submission")
    return Bundle(
        classes=record.classes,
        label_values=record.label_values,
        members=members,
        blend=blend,
        submission=SubmissionFormat(**(stored | {"columns": tuple(stored["columns"])}))
        if stored
        else None,
        provenance={
            "run": str(paths.root),
            "exported": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "data_fingerprint": record.data_fingerprint,
            "seed": record.config.seed,
            "n_train": raw["data"]["n_train"],
            "versions": raw["versions"],
            "overrides": raw["overrides"],
        },
    )


def _write_member(
    paths: RunPaths, record: RunRecord, config_id: str, aside: Path
) -> BundleMember:
    configuration = _configuration(paths, config_id)
    image_size = configuration.train.image_size
    backbone = configuration.backbone.model_copy(update={"pretrained": False, "weights": None})
    model = build_backbone(backbone, len(record.classes), image_size)
    folds = []
    for fold in range(record.config.folds.k):
        name = f"members/{config_id}/fold={fold}"
        weights = paths.weights(config_id, fold)
        if not weights.exists():
            raise DataError(f"{weights}: missing; the member cannot be exported")
        place = Location.of(aside / name)
        (place / "model.safetensors").write_bytes(weights.read_bytes())
        (place / "config.json").write_text(_timm_config(model, backbone, record, image_size))
        folds.append(name)
    return BundleMember(
        config_id=config_id,
        configuration=configuration,
        folds=tuple(folds),
        cache_size=record.cache_size,
        image_size=image_size,
        normalisation=normalisation_of(model),
    )


def _configuration(paths: RunPaths, config_id: str) -> Configuration:
    return Configuration.model_validate(OofStore(paths.root).metadata(config_id).configuration)


def _timm_config(
    model: nn.Module, backbone: BackboneConfig, record: RunRecord, image_size: int
) -> str:
    """timm's own description of a model folder (`timm.models.load_model_config_from_hf`)."""
    normalisation = normalisation_of(model)
    arguments: dict[str, Any] = {"drop_rate": backbone.drop_rate}
    if "img_size" in getattr(model, "foldblend_arguments", {}):
        arguments["img_size"] = image_size
    config = {
        "architecture": backbone.name.removeprefix("hf_hub:").split(".")[0],
        "num_classes": len(record.classes),
        "label_names": list(record.classes),
        "model_args": arguments,
        "pretrained_cfg": {
            "num_classes": len(record.classes),
            "input_size": [3, image_size, image_size],
            "mean": list(normalisation.mean),
            "std": list(normalisation.std),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "classifier": model.pretrained_cfg.get("classifier"),
            "first_conv": model.pretrained_cfg.get("first_conv"),
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
                "preprocessing": {
                    "decode": "RGB, EXIF orientation applied, squashed to a square",
                    "cache_size": one.cache_size,
                    "image_size": one.image_size,
                    **asdict(one.normalisation),
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
    members = []
    for one in values["members"]:
        shown = one["preprocessing"]
        members.append(
            BundleMember(
                config_id=one["config_id"],
                configuration=Configuration.model_validate(one["configuration"]),
                folds=tuple(one["folds"]),
                cache_size=int(shown["cache_size"]),
                image_size=int(shown["image_size"]),
                normalisation=Normalisation(tuple(shown["mean"]), tuple(shown["std"])),
            )
        )
    form = values["submission"]
    return Bundle(
        classes=tuple(values["classes"]),
        label_values=tuple(values["label_values"]),
        members=tuple(members),
        blend=Blend.from_dict(values["blend"]),
        submission=SubmissionFormat(tuple(form["columns"]), form["kind"], form["id_column"])
        if form
        else None,
        provenance=values["provenance"],
    )
