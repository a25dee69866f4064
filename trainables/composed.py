"""Composed models: one or two timm backbones, their features joined, one head.

Every file keeps timm's own keys behind a prefix: `backbones.0.…`, `backbones.1.…`, and `head.…`
for the classifier. The features of both as one input: the cheapest kind of stacking, trained end
to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn

from trainables.recipe import Normalisation

LAST = (float("inf"),)  # the classifier comes after every stage
Matcher: TypeAlias = Callable[[str], tuple[float, ...]]


class Cosines(NamedTuple):
    """What a cosine head answers in training mode, before a margin loss scales it.

    `cosines` (N, C) float32: the cosine of each row's features with each class's weights, in
    [-1, 1]. `norms` (N,) float32: each row's feature length before it was normalised (AdaFace
    needs it)."""

    cosines: Tensor
    norms: Tensor


class CosineClassifier(nn.Module):
    """Weights and features both of length one, so that the answer is a cosine.

    Features (N, D) in; in training mode Cosines, in evaluation mode `scale * cosines` (N, C): the
    logits of the same softmax without a margin. Always in float32: near 1, where margins act, a
    cosine in bfloat16 has two digits. Source: Wang et al. 2018, arXiv:1801.09414, eq. 3."""

    def __init__(self, in_features: int, n_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(n_classes, in_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor) -> Cosines | Tensor:
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            # Rounding must not leave [-1, 1]: the arc cosine would be NaN there.
            cosines = F.linear(F.normalize(features), F.normalize(self.weight.float()))
            cosines = cosines.clamp(-1.0, 1.0)
            if self.training:
                return Cosines(cosines, features.norm(dim=1))
            return self.scale * cosines


class ComposedModel(nn.Module):
    """Images (N, 3, S, S) through every backbone, their features side by side (N, D1 + D2) through
    dropout into `head`.

    `backbones`: timm models made with num_classes=0. `head`: of as many inputs as `n_features`.
    Input is normalised as the first backbone wants it; `scales` and `shifts` (B, 3, 1, 1) make of
    that what each of them wants."""

    scales: Tensor
    shifts: Tensor

    def __init__(
        self, backbones: Sequence[nn.Module], head: nn.Module, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = head
        self.register_buffer("scales", torch.ones(len(backbones), 3, 1, 1))
        self.register_buffer("shifts", torch.zeros(len(backbones), 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor | Cosines:
        features = [
            backbone(self._as_wanted(images, number))
            for number, backbone in enumerate(self.backbones)
        ]
        return self.head(self.head_drop(torch.cat(features, dim=1)))

    def set_normalisations(self, wanted: Sequence[Normalisation]) -> None:
        """Input comes as `wanted[0]` says; let each backbone see it as its own entry says."""
        first = wanted[0]
        for number, own in enumerate(wanted):
            scale, shift = affine_between(first, own)
            self.scales[number] = scale.view(3, 1, 1)
            self.shifts[number] = shift.view(3, 1, 1)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for backbone in self._timm():
            backbone.set_grad_checkpointing(enable)

    def get_classifier(self) -> nn.Module:
        """The head, as timm's models have it."""
        return self.head

    def no_weight_decay(self) -> set[str]:
        """What timm's optimizer factory asks: the names that each backbone would leave out."""
        return {
            f"backbones.{number}.{name}"
            for number, backbone in enumerate(self._timm())
            if hasattr(backbone, "no_weight_decay")
            for name in backbone.no_weight_decay()
        }

    def group_matcher(self, coarse: bool = False) -> Matcher:
        """As timm's models have it: the depth of a parameter, by name. Both backbones end together
        before the head; the deeper one begins earlier."""
        depths = [_without_last_norm(one, parameter_depths(one, coarse)) for one in self._timm()]
        deepest = max(max(one.values()) for one in depths)
        order = {
            f"backbones.{number}.{name}": (float(deepest - max(one.values()) + depth),)
            for number, one in enumerate(depths)
            for name, depth in one.items()
        }
        return lambda name: order.get(name, LAST)

    def _timm(self) -> list[Any]:
        return list(self.backbones)

    def _as_wanted(self, images: Tensor, number: int) -> Tensor:
        if number == 0:
            return images
        return images * self.scales[number].to(images.dtype) + self.shifts[number].to(images.dtype)


def n_features(backbones: Sequence[nn.Module]) -> int:
    """The length of the joined features of timm models made with num_classes=0."""
    return sum(int(cast(Any, backbone).head_hidden_size) for backbone in backbones)


def affine_between(given: Normalisation, wanted: Normalisation) -> tuple[Tensor, Tensor]:
    """(3,) and (3,) float32: what to multiply by and then to add, a channel, so that images
    normalised as `given` are normalised as `wanted`."""
    mean, std = torch.tensor(given.mean), torch.tensor(given.std)
    own_mean, own_std = torch.tensor(wanted.mean), torch.tensor(wanted.std)
    return std / own_std, (mean - own_mean) / own_std


def parameter_depths(model: nn.Module, coarse: bool) -> dict[str, int]:
    """Each parameter's depth by timm's own groups, 0 nearest the image; all 0 where a model has
    none. `coarse`: stages rather than blocks."""
    if not hasattr(model, "group_matcher"):
        return {name: 0 for name, _ in model.named_parameters()}
    matcher = cast(Any, model).group_matcher(coarse=coarse)
    return dict(group_parameters(model, matcher, reverse=True))


def _without_last_norm(model: nn.Module, depths: Mapping[str, int]) -> dict[str, int]:
    """A final norm, which timm groups with the classifier, joins the stage before it."""
    last = max(depths.values())
    shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    if last and all(shapes[name] <= 1 for name, depth in depths.items() if depth == last):
        return {name: min(depth, last - 1) for name, depth in depths.items()}
    return dict(depths)
