"""The command line as a user calls it, in this process: arguments in; code, output, errors out."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from tuner import cli


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def one_line_error(self) -> str:
        """The message of a refused command: exit code 2, one `error:` line, no traceback."""
        assert self.code == 2, self
        assert "Traceback" not in self.out + self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")


class Command:
    """Call it with the arguments that follow `foldblend`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Answer:
        self._monkeypatch.setattr(sys, "argv", ["foldblend", *map(str, arguments)])
        self._capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = self._capsys.readouterr()
        return Answer(code, captured.out, captured.err)
