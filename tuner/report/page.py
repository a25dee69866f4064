"""`report.html`: one page without scripts and without anything from elsewhere.

It opens offline, under any content policy, in a mail viewer, and prints.
"""

from __future__ import annotations

import time
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from ensemble.files import Location
from tuner.replayed import StoredRun
from tuner.report.blocks import Section
from tuner.report.classes import confusion, mergeable, per_class
from tuner.report.colours import OKABE_ITO, ramp
from tuner.report.construction import construction
from tuner.report.course import learning_curves, spending
from tuner.report.data import Progress, ReportData, gather
from tuner.report.doubts import duplicates, suspects
from tuner.report.members import leaderboard, members
from tuner.report.probabilities import calibration, correlation
from tuner.report.provenance import provenance_section
from tuner.report.scores import headline

FILE_NAME = "report.html"


def write_report(stored: StoredRun, *, progress: Progress | None = None) -> Location:
    """Write the page into the run directory and return where it lies. Works on finished, stopped
    and running searches, with a blend or without. OSError where it cannot be written."""
    page = render(gather(stored, progress=progress))
    location = stored.directory.root / FILE_NAME
    location.write_text(page)
    return location


def render(data: ReportData) -> str:
    """The whole page as HTML. The same data give the same text."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            name=data.name,
            lead=_lead(data),
            made=time.strftime("%Y-%m-%d %H:%M", time.localtime(data.made_at)),
            sections=sections(data),
            colours=OKABE_ITO,
            light=ramp(),
            dark=ramp(dark=True),
        )
    )


def sections(data: ReportData) -> tuple[Section, ...]:
    """The story in order: what came out, how, with whom, from what, and what to look at next."""
    fingerprint = data.blend.data_fingerprint if data.blend else None
    return (
        headline(data),
        construction(data),
        members(data),
        leaderboard(data),
        learning_curves(data),
        confusion(data),
        per_class(data),
        mergeable(data),
        calibration(data),
        correlation(data),
        suspects(data),
        duplicates(data),
        spending(data),
        provenance_section(data.provenance, fingerprint),
    )


def _lead(data: ReportData) -> str:
    """One line below the title."""
    sums = data.totals
    parts = [
        f"{data.provenance.rows} images" if data.provenance.rows else "",
        f"{data.provenance.classes} classes",
        f"{sums.configurations} configurations tried",
        f"{sums.members} members",
        "search still running" if data.searching else "",
    ]
    return " · ".join(part for part in parts if part)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tuner.report", "templates"),
        autoescape=True,  # class names, ids and paths come from whoever made the data
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
