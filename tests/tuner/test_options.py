from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from tuner.options import ConfigDir, Overrides

app = typer.Typer()


@app.command()
def shown(overrides: Overrides = None, config_dir: ConfigDir = None) -> None:
    assert config_dir is None or isinstance(config_dir, Path)
    typer.echo(f"{overrides} {config_dir}")


def test_overrides_and_the_config_dir_are_optional_and_read_as_given() -> None:
    run = CliRunner().invoke
    assert run(app, []).output.strip() == "None None"
    given = run(app, ["augment=light", "-c", "mine", "seed=3"])
    assert given.output.strip() == "['augment=light', 'seed=3'] mine"
