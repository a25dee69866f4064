from __future__ import annotations

import typer

from tuner.help_text import unwrap


def test_paragraphs_stay_and_lines_within_them_are_joined() -> None:
    app = typer.Typer()

    @app.command()
    def cook() -> None:
        """Cook a
        meal.

        It takes
        time.
        """

    unwrap(app)
    assert app.registered_commands[0].help == "Cook a meal.\n\nIt takes time."


def test_a_command_without_help_has_none() -> None:
    app = typer.Typer()
    app.command()(lambda: None)
    unwrap(app)
    assert app.registered_commands[0].help == ""
