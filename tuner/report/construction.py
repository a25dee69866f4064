"""How the ensemble was built: which methods competed, and what each stage added."""

from __future__ import annotations

from ensemble.blend_value import Blend, MethodScore
from tuner.report import numbers as n
from tuner.report.blocks import (
    Block,
    Column,
    Facts,
    Figure,
    Paragraph,
    Section,
    Table,
    Text,
    missing,
)
from tuner.report.charts import Dot, intervals
from tuner.report.data import ReportData
from tuner.report.scores import words

STAGES = {
    "weights": "weights alone",
    "calibration": "and calibration",
    "groups": "and second blends in groups",
    "rules": "and your rules",
}


def construction(data: ReportData) -> Section:
    title = "How it was built"
    if data.blend is None:
        return Section("built", title, missing("Nothing was blended yet."))
    blend = data.blend
    blocks: list[Block] = []
    if blend.choice:
        blocks.append(Paragraph(f"Weights by {blend.choice}.", "lead"))
    blocks.append(_methods(blend))
    if len(blend.stages) > 1:
        blocks.append(_stages(blend))
    facts = _facts(blend)
    if facts:
        blocks.append(Facts(facts))
    return Section("built", title, tuple(blocks))


def _methods(blend: Blend) -> Table:
    ranked = sorted(blend.methods, key=lambda one: (one.behind or 0.0, one.name != blend.method))
    columns = (
        Column("method", "text"),
        Column(f"nested {words(blend.metric)}"),
        Column("behind the best"),
        Column("without probe fold"),
        Column("in-sample (flattered)"),
        Column("members used", wide=True),
    )
    reading = (
        "Methods are compared by their nested scores. Of those that stand within one standard "
        "error of the best, the simplest is taken. In-sample scores are shown to be distrusted: "
        "the more a method can fit, the further they run ahead. The headline is judged more "
        "strictly than any row here: there the choice of the method, too, is made without the fold "
        "that is judged."
    )
    return Table(
        "Methods that competed",
        columns,
        tuple(_method_row(one, blend) for one in ranked),
        shown=16,
        reading=reading,
        strong=frozenset(at for at, one in enumerate(ranked) if one.name == blend.method),
    )


def _method_row(one: MethodScore, blend: Blend) -> tuple[Text, ...]:
    return (
        f"{one.name} (chosen)" if one.name == blend.method else one.name,
        n.score(one.nested),
        _behind(one),
        n.score(one.nested_without_probe_fold),
        n.score(one.in_sample),
        str(sum(weight > 0 for weight in one.weights.values())) if one.weights else n.NOTHING,
    )


def _behind(one: MethodScore) -> str:
    if one.behind is None:
        return n.NOTHING
    if one.behind == 0:
        return "best"
    error = "" if one.standard_error is None else f" ± {one.standard_error:.4f}"
    return f"{one.behind:.4f}{error}"


def _stages(blend: Blend) -> Figure:
    dots = [
        Dot(STAGES.get(one.name, one.name), one.nested, None, None, n.score(one.nested))
        for one in blend.stages
    ]
    reading = (
        f"The nested {words(blend.metric)} as the blend is built up. A stage that does not move "
        "the dot adds nothing that these rows can show."
    )
    return Figure(intervals(dots, "Nested score after each stage"), reading, "Stage by stage")


def _facts(blend: Blend) -> tuple[tuple[str, Text], ...]:
    facts: list[tuple[str, Text]] = []
    if calibration := _calibration(blend):
        facts.append(("calibration of the blend", calibration))
    for group in blend.groups:
        names = [blend.classes[index] for index in group.classes]
        facts.append(("second blend within", n.listed(names, 12)))
    if blend.rules:
        rules = blend.rules
        text = (
            f"{rules.source}: {n.counted(rules.rows, 'labelled row')} touched, "
            f"trusted at {n.share(rules.trust)}"
        )
        facts.append(("rules", text))
    if blend.certificate is not None:
        text = (
            f"no other weights could lower the in-sample log loss by more than "
            f"{blend.certificate:.1e}"
        )
        facts.append(("certificate", text))
    return tuple(facts)


def _calibration(blend: Blend) -> str:
    kind, temperature = blend.calibration.kind, blend.calibration.temperature
    if kind != "temperature":
        return {"vector": "vector scaling: a scale and a bias for every class"}.get(kind, kind)
    if temperature == 1:
        return "temperature 1: nothing to correct"
    effect = "the blend was too sure" if temperature > 1 else "the blend was too modest"
    return f"temperature {temperature:.3f} ({effect})"
