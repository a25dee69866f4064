"""`foldblend preview`: a picture of what an augmentation policy does to a few images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.errors import UserError
from tuner.options import ConfigDir, Overrides

if TYPE_CHECKING:
    from search_spaces.config import Configuration, RunConfig
    from search_spaces.space import Study


@dataclass(frozen=True)
class PreviewRequest:
    """`images` and `draws`: how many rows, and random versions in each; of a replay there is one.
    `tile`: the side of each small picture in pixels.
    `every`: all members of the group, not only those that the overrides name."""

    overrides: tuple[str, ...] = ()
    output: Path = Path("preview.png")
    images: int = 4
    draws: int = 6
    tile: int = 112
    every: bool = False
    replay: bool = False
    config_dir: Path | None = None

    @property
    def group(self) -> str:
        return "replay" if self.replay else "augment"

    @property
    def has_data(self) -> bool:
        """Whether the images are the user's, or else those that come with us."""
        return any(text.startswith(("data=", "experiment=")) for text in self.overrides)


def preview(
    overrides: Overrides = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The picture to write (PNG).")
    ] = Path("preview.png"),
    images: Annotated[int, typer.Option(min=1, max=32, help="Rows: so many images.")] = 4,
    draws: Annotated[int, typer.Option(min=1, max=32, help="Random versions of each image.")] = 6,
    tile: Annotated[
        int, typer.Option(min=32, max=512, help="Side of each small picture in pixels.")
    ] = 112,
    every: Annotated[
        bool, typer.Option("--all", help="All members of the group augment (or replay).")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="What validation sees: the group replay.")
    ] = False,
    config_dir: ConfigDir = None,
) -> None:
    """Write a picture of what an augmentation policy does; train nothing.

    [bold]foldblend preview augment=document[/bold]  (without data: four built-in images)

    [bold]foldblend preview experiment=csv data.path=train.csv data.images=train
    'augment=choice(light,strong)' -o preview.png[/bold]
    """
    request = PreviewRequest(
        tuple(overrides or ()), output, images, draws, tile, every, replay, config_dir
    )
    typer.echo(f"{write_preview(request)} -> {output}")


def write_preview(request: PreviewRequest) -> str:
    """Write the contact sheet; returns what is on it. UserError, ConfigError or DataError for a
    user's mistake."""
    from trainables.contact_sheet import contact_sheet, write_sheet
    from trainables.preview import replay_block, training_block

    if request.output.suffix.lower() != ".png":
        raise UserError(f"{request.output}: the picture is a PNG; give -o a name that ends in .png")
    chosen = list(_chosen(request))
    run = chosen[0][0].run
    originals = _originals(request, run)
    if request.replay:
        title = "replay: what validation sees"
        blocks = [replay_block(originals, one, study.run.replay, run.seed) for study, one in chosen]
    else:
        title = "augment: what training may see, before mixing"
        blocks = [training_block(originals, one, run.seed, request.draws) for _, one in chosen]
    write_sheet(contact_sheet(title, blocks, request.tile), request.output)
    names = ", ".join(block.title for block in blocks)
    count = f"{len(originals)} image{'s' if len(originals) > 1 else ''}"
    return f"{request.group} {names}: {count}"


def _chosen(request: PreviewRequest) -> Iterator[tuple[Study, Configuration]]:
    """Each policy to show, as a study and a configuration of it."""
    from search_spaces.tree import members

    if request.every:
        for member in members(request.group, request.config_dir):
            study = _study(request, f"{request.group}={member}")
            yield study, _configuration(study, {})
        return
    study = _study(request)
    for member in study.space.groups.get("augment", ()) if not request.replay else ():
        yield study, _configuration(study, {"augment": member})
    if request.replay or "augment" not in study.space.groups:
        yield study, _configuration(study, {})


def _study(request: PreviewRequest, *more: str) -> Study:
    from search_spaces.space import load_study

    start = () if request.has_data else ("data=digits", "name=preview")
    return load_study([*start, *request.overrides, *more], request.config_dir)


def _configuration(study: Study, wanted: Mapping[str, str]) -> Configuration:
    """The space's sample by the run's seed, with the `wanted` members."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.run.seed))
    asked.enqueue_trial(dict(wanted))
    return study.space.sample(asked.ask())


def _originals(request: PreviewRequest, run: RunConfig) -> dict[str, Any]:
    """Name to uint8 RGB (H, W, 3), upright: the built-in images, or a random few of the user's."""
    import numpy as np

    from trainables.example_images import example_images
    from trainables.images import decode_image
    from trainables.seeds import derive_seed
    from trainables.sources import load_manifest

    if not request.has_data:
        return dict(list(example_images().items())[: request.images])
    manifest = load_manifest(run.data)
    order = np.random.default_rng(derive_seed(run.seed, "preview"))
    rows = order.permutation(len(manifest.ids))[: request.images]
    return {manifest.ids[row]: decode_image(manifest.paths[row]) for row in rows}
