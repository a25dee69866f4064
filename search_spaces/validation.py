"""Which keys the typed configuration has, and pydantic's errors in one line."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from search_spaces.config import Configuration, RunConfig
from search_spaces.errors import ConfigError, hint, listing, nearest, show

M = TypeVar("M", bound=BaseModel)

# What pydantic calls the mistake -> what is allowed. {…} are filled from the error's context.
RULES = {
    "missing": "must be given",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must be letters, digits, _, - and ., and not begin with - or .",
    "string_too_long": "must be at most {max_length} characters long",
    "tuple_type": "must be a list, such as [a, b]",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}


def validate(model: type[M], tree: object, where: str = "") -> M:
    """The checked, frozen `model` of `tree`; `where` is the key under which the tree stands.

    Raises ConfigError: the first mistake, with its key, value and what is allowed, and how many
    more there are."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        # An unknown key first: it is the cause where the same key's right name is missing.
        errors = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(_line(model, errors[0], where) + more) from None


def known_keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Every dotted key of a typed configuration, inner nodes included, in the order of the type."""
    return dict(_keys(model, ""))


def leaf_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The dotted keys that hold values."""
    return tuple(key for key, field in known_keys(model).items() if not _submodel(field))


def check_key(key: str) -> None:
    """Raise ConfigError, with the nearest name, unless some typed configuration has `key`."""
    keys = {**known_keys(RunConfig), **known_keys(Configuration)}
    if key in keys:
        return
    parent, _, name = key.rpartition(".")
    if parent and parent not in keys:
        check_key(parent)
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    if not siblings:
        raise ConfigError(f"{key}: {parent} is a value and has no keys of its own")
    if nearest(name, siblings) is None:
        last = {k.rpartition(".")[2]: k for k in reversed(keys) if k.startswith(parent)}
        if elsewhere := nearest(name, last):
            raise ConfigError(f"{key}: unknown key; did you mean {last[elsewhere]}?")
    raise ConfigError(f"{key}: unknown key{hint(name, siblings)}")


def takes_text(key: str) -> bool:
    """Whether `key` takes free text, such as a name or a path."""
    field = {**known_keys(RunConfig), **known_keys(Configuration)}.get(key)
    return field is not None and str in (field.annotation, *typing.get_args(field.annotation))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field
        if inner := _submodel(field):
            yield from _keys(inner, f"{prefix}{name}.")


def _submodel(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None  # type: ignore[return-value]


def _line(model: type[BaseModel], error: ErrorDetails, where: str) -> str:
    parts = [str(part) for part in error["loc"]]
    key = ".".join(([where] if where else []) + parts)
    value, context = error.get("input"), error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        siblings = list(_model_at(model, parts[:-1]).model_fields)
        return f"{key}: unknown key{hint(parts[-1], siblings)}"
    if error["type"] == "missing":
        return f"{key}: must be given"
    if error["type"] == "value_error":
        message = str(context.get("error", error["msg"]))
        return message if not key or message.startswith(key) else f"{key}: {message}"
    if error["type"] == "literal_error":
        return f"{key}={show(value)}: {_literal(value, str(context['expected']))}"
    rule = RULES.get(error["type"], error["msg"])
    shown = "" if isinstance(value, Mapping) else f"={show(value)}"
    return f"{key}{shown}: {rule.format(**{k: show(_short(v)) for k, v in context.items()})}"


def _literal(value: object, expected: str) -> str:
    names = [name.strip(" '") for name in expected.replace(" or ", ",").split(",")]
    close = nearest(str(value), names)
    return f"must be one of {listing(names)}" + (f"; did you mean {close}?" if close else "")


def _short(number: object) -> object:
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _model_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for part in path:
        inner = _submodel(model.model_fields[part])
        assert inner is not None
        model = inner
    return model
