"""The text that `--help` shows."""

from __future__ import annotations

import inspect

import typer


def unwrap(app: typer.Typer) -> None:
    """Let the terminal break the lines of every command's help, paragraph by paragraph. Typer keeps
    the line ends of a docstring from its second paragraph on."""
    for command in app.registered_commands:
        text = inspect.cleandoc(getattr(command.callback, "__doc__", None) or "")
        command.help = "\n\n".join(" ".join(one.split()) for one in text.split("\n\n"))
