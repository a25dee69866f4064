"""How a model is built again without asking anyone, as a value that travels as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

# Of red, green and blue.
Channels: TypeAlias = tuple[float, float, float]
# The mean colour of ImageNet and its deviation.
DEFAULT_MEAN = (0.485, 0.456, 0.406)
DEFAULT_STD = (0.229, 0.224, 0.225)
HeadKind: TypeAlias = Literal["linear", "cosine"]
HEADS = ("linear", "cosine")


class BackboneError(ValueError):
    """A model that cannot be built as asked: one line for the user."""


class WeightsNotHereError(BackboneError):
    """Weights that are not where they were said to be, or on a hub out of reach: the configuration
    may be sound, and can be built when they are there."""


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of RGB in [0, 1]."""

    mean: Channels = DEFAULT_MEAN
    std: Channels = DEFAULT_STD


@dataclass(frozen=True)
class Part:
    """One timm model: its architecture, and the arguments beyond the number of classes."""

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "arguments": dict(self.arguments)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Part:
        return cls(str(values["architecture"]), dict(values["arguments"]))


@dataclass(frozen=True)
class Recipe:
    """How stock timm builds a model again: its architecture, the arguments beyond the number of
    classes, and what its input has to look like.

    `second`: another timm model whose features are joined to those of the first. `head`: linear,
    or cosine with `scale` (`composed.py`). What is not there in an older dict is the default."""

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Normalisation = Normalisation()
    second: Part | None = None
    head: HeadKind = "linear"
    scale: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether it is one timm model with timm's own classifier."""
        return self.second is None and self.head == "linear"

    @property
    def parts(self) -> tuple[Part, ...]:
        """The timm models, first to last."""
        first = Part(self.architecture, self.arguments)
        return (first,) if self.second is None else (first, self.second)

    def to_dict(self) -> dict[str, Any]:
        values = {
            **Part(self.architecture, self.arguments).to_dict(),
            "mean": list(self.normalisation.mean),
            "std": list(self.normalisation.std),
        }
        if self.second is not None:
            values["second"] = self.second.to_dict()
        if self.head != "linear":
            values |= {"head": self.head, "scale": self.scale}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """KeyError, TypeError or ValueError where `values` are no recipe known here."""
        second = values.get("second")
        head = values.get("head", "linear")
        if head not in HEADS:
            raise ValueError(f"the head {head!r} is none of {', '.join(HEADS)}")
        return cls(
            architecture=str(values["architecture"]),
            arguments=dict(values["arguments"]),
            normalisation=Normalisation(three(values["mean"]), three(values["std"])),
            second=None if second is None else Part.from_dict(second),
            head=cast(HeadKind, head),
            scale=float(values.get("scale", 1.0)),
        )


def three(values: Any) -> Channels:
    """Three numbers, one a channel; ValueError where there are not three."""
    first, second, third = values
    return float(first), float(second), float(third)


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
