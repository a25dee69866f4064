from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ensemble.blend_value import write_blend
from ensemble.files import Location
from tests.tuner.made_runs import made_world
from tests.tuner.report.made_report import (
    HOSTILE,
    Page,
    report_blend,
    report_data,
    stored_run,
    tables,
    write_tables,
)
from tuner.report.data import ReportData, gather
from tuner.report.evidence import read_evidence
from tuner.report.page import render, sections, write_report

ORDER = [
    *("score", "built", "members", "leaderboard", "curves", "confusion", "classes", "mergeable"),
    *("calibration", "correlation", "suspects", "duplicates", "spending", "provenance"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return report_data(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(data: ReportData) -> Page:
    return Page(render(data))


def test_the_story_has_its_sections_in_order_and_a_way_to_each(page: Page) -> None:
    assert [values["id"] for values in page.of("section")] == ORDER
    links = [values["href"] for values in page.of("a")]
    assert links[: len(ORDER)] == [f"#{one}" for one in ORDER]
    assert len(page.of("h1")) == 1
    assert len(page.of("h2")) == len(ORDER)


def test_every_element_is_closed(page: Page) -> None:
    assert page.unclosed == []


def test_nothing_is_loaded_and_nothing_runs(page: Page) -> None:
    assert not page.of("script") + page.of("link") + page.of("iframe") + page.of("object")
    for _, values in page.tags:
        assert not [name for name in values if name.startswith("on")]
        for name in ("src", "srcset", "data", "poster", "xlink:href"):
            assert (values.get(name) or "data:").startswith("data:")
        assert "//" not in (values.get("href") or "")
    assert not re.search(r"url\(|@import|https?://", page.html)
    policy = [v["content"] for v in page.of("meta") if "http-equiv" in v]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_every_drawing_says_what_it_is(page: Page) -> None:
    for _, values in page.tags:
        if values.get("role") in ("img", "group", "region"):
            assert values.get("aria-label")
    for image in page.of("img"):
        assert image["alt"]
    for tag, values in page.tags:
        if tag == "svg":
            drawn = values.get("aria-label") or values.get("aria-hidden")
            assert drawn or "mark" in (values["class"] or "")


def test_the_headline_has_the_blend_s_own_numbers(page: Page) -> None:
    text = page.text("score")
    for number in ("0.3123", "0.4017", "−0.0894", "0.2987", "0.3301", "0.2923 to 0.3323"):
        assert number in text


def test_no_table_s_row_is_longer_than_its_head(data: ReportData) -> None:
    for section in sections(data):
        for block in section.blocks:
            if block.kind == "table":
                assert {len(row) for row in block.rows} == {len(block.columns)}


def test_no_text_is_smaller_than_twelve_pixels(page: Page) -> None:
    sizes = re.findall(r"font-size:([\d.]+)(rem|px|em)", page.html)
    assert sizes
    assert min(float(size) * (1 if unit == "px" else 16) for size, unit in sizes) >= 12


def test_what_a_user_wrote_stays_text(data: ReportData, tmp_path: Path) -> None:
    """Class names, ids, paths, errors and reasons come from whoever made the data."""
    stored = stored_run(tmp_path / "run")
    names = (HOSTILE, "a'b\"c<d>&amp;", "owl")
    rows = tables(stored.race.members, names)
    for row in rows["suspects"]:
        row["id"] = f'"><img src=x onerror=alert(1)>{row["id"]}'
    write_tables(tmp_path / "run", rows)
    found = gather(stored)
    hostile = replace(
        found,
        name=HOSTILE,
        blend=report_blend(stored.race.members, classes=names, choice=HOSTILE),
        rows=tuple(replace(row, why=HOSTILE, backbone=HOSTILE) for row in found.rows),
        names={HOSTILE: HOSTILE},
        searched={row.config_id: {"lr": HOSTILE} for row in found.rows},
        curves=tuple(replace(one, backbone=HOSTILE) for one in found.curves),
        failures=tuple(replace(one, error=HOSTILE) for one in found.failures),
        provenance=replace(
            found.provenance, command=HOSTILE, files=((HOSTILE, HOSTILE),), versions={"x": HOSTILE}
        ),
    )
    made = Page(render(hostile))
    assert "<script" not in made.html
    assert not made.of("script")
    assert not [values for values in made.of("img") if values.get("src") == "x"]
    assert not [1 for _, values in made.tags if "onerror" in values]
    for section in ("confusion", "classes", "suspects", "leaderboard", "curves", "provenance"):
        assert 'alert("x")' in made.text(section) or "onerror" in made.text(section)


def test_a_page_without_a_blend_says_why_in_every_section(tmp_path: Path) -> None:
    page = Page(write_report(stored_run(tmp_path / "run")).read_text())
    assert [values["id"] for values in page.of("section")] == ORDER
    assert "nothing was blended yet" in page.text("score")
    assert "Nothing was blended" in page.text("built")
    for section in ("confusion", "classes", "calibration", "correlation", "suspects"):
        assert "There is no analysis/" in page.text(section)


def test_a_search_that_has_not_begun_has_a_page_too(tmp_path: Path) -> None:
    page = Page(write_report(stored_run(tmp_path / "run", made_world())).read_text())
    assert "no configuration has finished" in page.text("score")
    assert "Nothing was proposed yet" in page.text("leaderboard")
    assert "No fold run has finished an epoch" in page.text("curves")
    assert "Nothing was spent" in page.text("spending")


def test_a_blend_of_another_version_is_a_sentence_not_an_error(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    stored.directory.blend.write_text('{"version": 99}')
    page = Page(render(gather(stored)))
    assert "cannot be read" in page.text("score")
    assert "version 2, got 99" in page.text("score")


def test_the_page_is_written_beside_what_it_is_about(tmp_path: Path) -> None:
    stored = stored_run(tmp_path / "run")
    write_blend(stored.directory.blend, report_blend(stored.race.members))
    said: list[str] = []
    location = write_report(stored, progress=said.append)
    assert location.local_path == tmp_path / "run" / "report.html"
    assert "0.3123" in Page(location.read_text()).text("score")
    assert said == ["reading the analysis", "making thumbnails"]


def test_the_same_data_give_the_same_page(data: ReportData) -> None:
    assert render(data) == render(data)


def test_a_large_run_stays_below_a_megabyte(data: ReportData, tmp_path: Path) -> None:
    """500 classes, 200 configurations, 40 thumbnails of the largest size."""
    classes = tuple(f"class number {i:03d}" for i in range(500))
    rows = tables(["c0", "c1"], classes)
    rows["suspects"] *= 16
    write_tables(tmp_path, rows)
    many = [
        replace(data.rows[i % len(data.rows)], config_id=f"c{i:09d}", why="x" * 500)
        for i in range(200)
    ]
    curve = next(one for one in data.curves if one.member)
    curves = [
        replace(
            curve,
            config_id=f"c{i:09d}",
            fold=fold,
            backbone=f"backbone{i % 8}",
            epochs=tuple(range(1, 101)),
            values=tuple(1.0 / (1 + epoch) for epoch in range(100)),
        )
        for i in range(200)
        for fold in range(2)
    ]
    large = replace(
        data,
        rows=tuple(many),
        curves=tuple(curves),
        evidence=read_evidence(Location.of(tmp_path)),
        thumbnails={f"img{i}": "data:image/jpeg;base64," + "A" * 5000 for i in range(40)},
    )
    assert len(render(large).encode()) < 1_000_000
