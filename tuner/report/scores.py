"""The headline: what the ensemble scores, and which of its scores to believe."""

from __future__ import annotations

from markupsafe import Markup

from ensemble.blend_value import Blend, JudgedScore, Score
from tuner.report import numbers as n
from tuner.report.blocks import (
    Block,
    Card,
    Cards,
    Column,
    Figure,
    Paragraph,
    Section,
    Table,
    Text,
)
from tuner.report.charts import Dot, intervals
from tuner.report.data import ReportData, higher_is_better
from tuner.report.evidence import BLEND


def headline(data: ReportData) -> Section:
    """The nested score against the best single configuration; or why there is none yet."""
    title = "What the ensemble scores"
    if data.blend is None:
        return Section("score", title, _no_blend(data))
    blend = data.blend
    blocks: list[Block] = [
        Cards(_cards(blend)),
        Paragraph(_verdict(blend), "lead"),
        Figure(_chart(blend), _chart_reading(blend)),
        Paragraph(_believe(blend), "lead"),
    ]
    used = [one.config_id for one in blend.members if one.weight > 0]
    optimistic = [one for one in used if one in data.optimistic]
    if optimistic:
        text = (
            f"{n.counted(len(optimistic), 'member')} of {len(used)} kept the epoch that was best "
            "on the validation fold (keep: best). That choice saw the rows it is judged on, so all "
            "scores here are somewhat optimistic."
        )
        blocks.append(Paragraph(text, "warning"))
    blocks += [table for table in (_metrics(blend), _folds(data)) if table]
    return Section("score", title, tuple(blocks))


def is_sure(score: Score) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return score.low is not None and score.high is not None and not score.low <= 0 <= score.high


def _no_blend(data: ReportData) -> tuple[Block, ...]:
    if data.blend_problem:
        text = f"There is a blend.json, but it cannot be read: {data.blend_problem}"
        return (Paragraph(text, "warning"), Paragraph("Blend again to see its scores here."))
    members = data.totals.members
    if members:
        text = (
            f"{n.counted(members, 'member')} finished all folds, but nothing was blended yet: "
            "run foldblend blend on this run, then make this page again."
        )
    elif data.searching:
        text = "The search is running and no configuration has finished all its folds yet."
    else:
        text = "There is no ensemble: no configuration has finished all its folds."
    best = [row.probe for row in data.rows if row.probe is not None]
    blocks: list[Block] = [Paragraph(text, "lead")]
    if best:
        value = max(best) if data.higher_is_better else min(best)
        card = Card(
            f"best {words(data.metric)} on the probe fold so far",
            n.score(value),
            "selected on these very rows: flattered",
            quiet=True,
        )
        blocks.insert(0, Cards((card,)))
    return tuple(blocks)


def words(metric: str) -> str:
    """A metric's name as words."""
    return metric.replace("_", " ").replace("macro f1", "macro F1").replace("auc", "AUC")


def _cards(blend: Blend) -> tuple[Card, ...]:
    nested, name = blend.nested, words(blend.metric)
    return (
        Card(
            f"ensemble, nested {name}",
            n.score(nested.blend.value),
            Markup("{}<br>without the probe fold {}").format(
                _within(blend, nested.blend), n.score(nested.blend.without_probe_fold.value)
            ),
        ),
        Card(
            f"best single, nested {name}",
            n.score(nested.best_single.value),
            Markup("{}<br>{}").format(
                nested.best_single.config_id, _within(blend, nested.best_single)
            ),
        ),
        Card(
            "ensemble minus best single",
            n.signed(nested.difference.value),
            _signed_interval(nested.difference),
        ),
        Card(
            f"ensemble, in-sample {name}",
            n.score(blend.in_sample),
            "fitted and judged on the same rows: flattered, not to be quoted",
            quiet=True,
        ),
    )


def _within(blend: Blend, score: Score) -> str:
    text = n.interval(score.low, score.high)
    return f"{blend.confidence * 100:g} % interval {text}" if text else "no interval asked for"


def _signed_interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return "no interval asked for"
    return f"{n.signed(score.low)} to {n.signed(score.high)}"


def _verdict(blend: Blend) -> Text:
    difference = blend.nested.difference
    return Markup(
        "Against the best single configuration the ensemble is <b>{}</b> on all rows, and "
        "<b>{}</b> outside the probe fold."
    ).format(_compared(blend, difference), _compared(blend, difference.without_probe_fold))


def _compared(blend: Blend, difference: Score) -> str:
    if difference.value == 0:
        return "equal"
    gains = (difference.value > 0) == higher_is_better(blend.metric)
    size = n.score(abs(difference.value))
    text = f"{size} better" if gains else f"{size} worse"
    if difference.low is None:
        return text
    sure = "more than chance explains" if is_sure(difference) else "chance could explain it"
    return f"{text} ({sure})"


def _chart(blend: Blend) -> Markup:
    nested = blend.nested
    dots = [
        _dot("ensemble, nested", nested.blend, "first"),
        _dot("best single, nested", nested.best_single, "second"),
        _dot("ensemble, without the probe fold", nested.blend.without_probe_fold, "first"),
        _dot("best single, without it", nested.best_single.without_probe_fold, "second"),
        Dot(
            "ensemble, in-sample",
            blend.in_sample,
            None,
            None,
            f"{n.score(blend.in_sample)} (flattered)",
            "quiet",
        ),
    ]
    return intervals(dots, f"{words(blend.metric)} with intervals")


def _dot(label: str, score: Score, style: str) -> Dot:
    interval = n.interval(score.low, score.high)
    text = n.score(score.value) + (f" ({interval})" if interval else "")
    return Dot(label, score.value, score.low, score.high, text, style)


def _chart_reading(blend: Blend) -> str:
    better = "Right" if higher_is_better(blend.metric) else "Left"
    text = f"{better} is better. Filled dots: ensemble; hollow: best single"
    if blend.bootstrap:
        text += (
            f"; lines: {blend.confidence * 100:g} % intervals over {n.count(blend.bootstrap)} "
            "resamples of the rows"
        )
    return (
        f"{text}. Nested: every row is judged by weights that were fitted without its fold "
        f"({n.counted(blend.n_rows, 'row')}, {n.counted(blend.n_folds, 'fold')})."
    )


def _believe(blend: Blend) -> Text:
    """Which of the two scores, and why."""
    whole: JudgedScore = blend.nested.blend
    outside = whole.without_probe_fold
    gap = whole.value - outside.value
    flattered = (gap > 0) == higher_is_better(blend.metric) and gap != 0
    if flattered:
        why = (
            f"Configurations were selected on fold {blend.probe_fold}, so its rows flatter them: "
            f"with that fold the score looks {n.score(abs(gap))} better, and some of that is "
            "selection, not skill."
        )
    else:
        why = (
            f"Configurations were selected on fold {blend.probe_fold}. Here its rows do not make "
            "the score look better, but only the score without them is free of that choice."
        )
    rests = "It rests on fewer rows"
    rests += ", so its interval is wider." if _width(outside) > _width(whole) else "."
    return Markup("<b>Believe {}</b>, the score without the probe fold. {} {}").format(
        n.score(outside.value), why, rests
    )


def _width(score: Score) -> float:
    return 0.0 if score.low is None or score.high is None else score.high - score.low


def _metrics(blend: Blend) -> Table | None:
    ours, single = blend.metrics.get("blend", {}), blend.metrics.get("best_single", {})
    rows = tuple(
        (words(name), n.score(value), n.score(single.get(name))) for name, value in ours.items()
    )
    if not rows:
        return None
    columns = (Column("nested", "text"), Column("ensemble"), Column("best single"))
    return Table("Other metrics of the same predictions", columns, rows)


def _folds(data: ReportData) -> Table | None:
    ours = data.evidence.rows("fold_scores", BLEND)
    if not ours or data.blend is None:
        return None
    single = data.blend.nested.best_single.config_id
    theirs = {row["fold"]: row for row in data.evidence.rows("fold_scores", single)}
    rows = tuple(
        (
            f"{row['fold']}" + (" (probe)" if row["fold"] == data.blend.probe_fold else ""),
            n.count(row["rows"]),
            n.score(row["log_loss"]),
            n.score(theirs.get(row["fold"], {}).get("log_loss")),
            n.share(row["accuracy"], 1),
            n.share(theirs.get(row["fold"], {}).get("accuracy"), 1),
        )
        for row in ours
    )
    columns = (
        Column("fold", "text"),
        Column("rows", wide=True),
        Column("log loss, ensemble"),
        Column("best single, as stored"),
        Column("accuracy, ensemble"),
        Column("best single, as stored"),
    )
    reading = (
        "How far the folds lie apart is the luck of the rows: a smaller difference is noise. "
        "As stored: without the temperature that the best single member has in the scores above."
    )
    return Table("Fold by fold", columns, rows, reading=reading)
