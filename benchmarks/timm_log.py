"""What timm's train.py prints, read."""

from __future__ import annotations

import re
import statistics

LINE = re.compile(r"Train: (\d+) \[.*?\(\s*[\d.]+s,\s*([\d.]+)/s\)\s+LR")


def steady_rate(text: str) -> float | None:
    """The median over the epochs but the first of the images a second that stand in an epoch's last
    line; None where there is no second epoch."""
    last = {int(epoch): float(rate) for epoch, rate in LINE.findall(text)}
    rates = [rate for epoch, rate in last.items() if epoch > 0]
    return statistics.median(rates) if rates else None
