"""One sweep expression of Hydra's override grammar, read into a frozen dimension.

    interval(0.1, 0.5)              any number between, both ends included
    tag(log, interval(1e-5, 1e-3))  the same, evenly over the logarithm
    int(interval(16, 64))           any whole number between, both ends included
    range(2, 10, 2)                 2, 4, 6, 8: the stop is not included, as in Python
    choice(a, b, c)   or   a,b,c    one of these

Grammar: https://hydra.cc/docs/advanced/override_grammar/extended
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    QuotedString,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException

from search_spaces.errors import ConfigError, hint, show

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str | None
MOST_VALUES = 1000
PLAIN_NAME = re.compile(r"(?!(?:null|true|false)$)[A-Za-z_][\w./:-]*")
CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*\(.*", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """One of `values`, which are all different."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class FloatInterval:
    """Any number from `low` to `high`, both included; `log`: evenly over the logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class IntInterval:
    """`low`, `low + step`, ... `high`, both included; `log` only with step 1."""

    low: int
    high: int
    step: int = 1
    log: bool = False


Dimension = Choice | FloatInterval | IntInterval


def parse_sweep(key: str, text: str) -> Dimension | None:
    """The dimension that `text` describes, or None when it is a plain value.

    Raises ConfigError, naming `key` and `text`, for a syntax error or an impossible range."""
    sweep = parse_value(key, text)
    if isinstance(sweep, ChoiceSweep):
        return _choice(key, text, sweep)
    if isinstance(sweep, RangeSweep):
        return _range(key, text, sweep)
    if isinstance(sweep, IntervalSweep):
        return _interval(key, text, sweep)
    if isinstance(sweep, Glob):
        raise ConfigError(f"{key}={text}: glob(...) chooses members of a group, not values")
    return None


def parse_value(key: str, text: str) -> Any:
    """What Hydra's own parser makes of the text after `key=`: a Sweep, a Glob or a plain value.

    Text that is no valid expression is an error only where it looks like a function call; else
    it is returned as it came, because names and paths may hold any character."""
    call = CALL.fullmatch(text)
    if not call and "," not in text:
        return text
    try:
        # The rule "override" reads to the end of the text; the rule "value" would ignore a rest.
        return OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException as error:
        if not call:
            return text
        functions = sorted(create_functions().definitions)
        if call[1] not in functions:
            if not text.rstrip().endswith(")"):
                return text
            raise ConfigError(
                f"{key}={text}: unknown function {call[1]}{hint(call[1], functions)}"
            ) from None
        raise ConfigError(f"{key}={text}: {_reason(error)}") from None


def describe(dimension: Dimension) -> str:
    """The dimension in words a person can read, exact enough that two dimensions differ exactly
    when their descriptions do: `log 0.002..0.008`, `int 1..9 step 2`, `a | b`."""
    if isinstance(dimension, Choice):
        return " | ".join(_value_text(value) for value in dimension.values)
    log = "log " if dimension.log else ""
    if isinstance(dimension, FloatInterval):
        return f"{log}{dimension.low!r}..{dimension.high!r}"
    step = f" step {dimension.step}" if dimension.step != 1 else ""
    return f"{log}int {dimension.low}..{dimension.high}{step}"


def suggest(dimension: Dimension, trial: optuna.trial.BaseTrial, name: str) -> Value:
    """Ask `trial` for a value of `dimension` under the parameter name `name`."""
    if isinstance(dimension, Choice):
        value: Value = trial.suggest_categorical(name, dimension.values)
        return value
    low, high, log = dimension.low, dimension.high, dimension.log
    if isinstance(dimension, FloatInterval):
        return float(trial.suggest_float(name, low, high, log=log))
    return int(trial.suggest_int(name, int(low), int(high), step=dimension.step, log=log))


def contains(dimension: Dimension, value: object) -> bool:
    """Whether `value` can come out of `dimension`."""
    if isinstance(dimension, Choice):
        return value in dimension.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not dimension.low <= value <= dimension.high:
        return False
    return isinstance(dimension, FloatInterval) or (value - dimension.low) % dimension.step == 0


def _choice(key: str, text: str, sweep: ChoiceSweep) -> Choice:
    if _is_log(key, text, sweep):
        raise ConfigError(f"{key}={text}: tag(log, ...) needs interval(low, high) or range(...)")
    return _values(key, text, [_plain(key, text, item) for item in sweep.list])


def _plain(key: str, text: str, item: object) -> Value:
    if isinstance(item, QuotedString):
        return str(item.text)
    if item is None or isinstance(item, bool | int | float | str):
        return item
    raise ConfigError(f"{key}={text}: a choice is between numbers, texts, true, false and null")


def _values(key: str, text: str, values: list[Value]) -> Choice:
    for place, value in enumerate(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key}={text}: values must be finite")
        if value in values[:place]:
            raise ConfigError(f"{key}={text}: {show(value)} is there twice")
    return Choice(tuple(values))


def _interval(key: str, text: str, sweep: IntervalSweep) -> Dimension:
    assert sweep.start is not None
    assert sweep.end is not None
    low, high, log = sweep.start, sweep.end, _is_log(key, text, sweep)
    _check_bounds(key, text, low, high, log)
    if isinstance(low, int) and isinstance(high, int):
        return IntInterval(low, high, 1, log)
    return FloatInterval(float(low), float(high), log)


def _range(key: str, text: str, sweep: RangeSweep) -> Dimension:
    log = _is_log(key, text, sweep)
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    if step == 0 or not all(math.isfinite(number) for number in (start, stop, step)):
        raise ConfigError(f"{key}={text}: a range needs finite ends and a step that is not 0")
    if log and abs(step) != 1:
        raise ConfigError(f"{key}={text}: tag(log, range(...)) does not go with a step")
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        whole = range(start, stop, step)
        _check_not_empty(key, text, len(whole))
        low, high = sorted((whole[0], whole[-1]))
        _check_bounds(key, text, low, high, log)
        return IntInterval(low, high, abs(step), log)
    if log:
        raise ConfigError(f"{key}={text}: tag(log, range(...)) needs whole numbers; use interval")
    return _values(key, text, _float_steps(key, text, start, stop, step))


def _float_steps(key: str, text: str, start: float, stop: float, step: float) -> list[Value]:
    # As decimals, as they were written: with floats 3 * 0.3 < 0.9, and the stop would be included.
    first, end, by = (Decimal(repr(number)) for number in (start, stop, step))
    count = math.ceil((end - first) / by)
    _check_not_empty(key, text, count)
    if count > MOST_VALUES:
        raise ConfigError(f"{key}={text}: more than {MOST_VALUES} values; use interval(low, high)")
    values: list[Value] = [float(first + by * place) for place in range(count)]
    return values if step > 0 else values[::-1]


def _check_not_empty(key: str, text: str, count: int) -> None:
    if count <= 0:
        raise ConfigError(f"{key}={text}: no value lies in this range (the stop is not included)")


def _is_log(key: str, text: str, sweep: Sweep) -> bool:
    unknown = sorted(sweep.tags - {"log"})
    if unknown:
        raise ConfigError(f"{key}={text}: unknown tag {unknown[0]}; the only tag is log")
    if not sweep.tags and re.search(r"\btag\s*\(", text):
        # Hydra's int(...) and float(...) silently drop the tags of a choice and of a range.
        raise ConfigError(f"{key}={text}: the tag is lost; write tag(log, int(...)) instead")
    return "log" in sweep.tags


def _check_bounds(key: str, text: str, low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{key}={text}: both ends must be finite")
    if low > high:
        raise ConfigError(f"{key}={text}: upside down, {low!r} is more than {high!r}")
    if log and low <= 0:
        raise ConfigError(f"{key}={text}: a log scale needs ends above 0, not {low!r}")


def _value_text(value: Value) -> str:
    if not isinstance(value, str):
        return show(value)
    # A text that could be taken for something else is written in quotes.
    return value if PLAIN_NAME.fullmatch(value) else json.dumps(value)


def _reason(error: HydraException) -> str:
    text = str(error).strip() or str(error.__cause__)
    first = text.splitlines()[0]
    # "ValueError while evaluating 'choice()': empty choice is not legal" -> the last part
    return first.split("': ", 1)[1] if " while evaluating '" in first else f"syntax error ({first})"
