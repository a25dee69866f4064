"""Draw what `foldblend status RUN` prints as an SVG: `python docs/picture.py RUN docs/demo.svg`.

The README's PNG is a browser's screenshot of it:
    chromium --headless --no-sandbox --screenshot=docs/demo.png --window-size=W,H docs/demo.svg
"""

from __future__ import annotations

import io
import sys

from rich.console import Console

from tuner.replayed import read_run
from tuner.summary import print_status


def main(run: str, picture: str) -> None:
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
    print_status(console, read_run(run))
    console.save_svg(picture, title="foldblend search experiment=digits")


if __name__ == "__main__":
    main(*sys.argv[1:])
