"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Hydra overrides, e.g. experiment=csv data.path=train.csv optimizer.lr=3e-4 "
        "'backbone=choice(convnext_tiny,vit_small)'.",
    ),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir", "-c", help="A folder of your own groups: experiment/, backbone/ …."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="The cluster's dashboard (default: RAY_ADDRESS where it is http, else "
        "http://127.0.0.1:8265, where `ray dashboard cluster.yaml` opens it).",
    ),
]
