"""Margin losses: logits for cross entropy, from cosines, with the label's own made harder to reach.

theta is the angle between a row's features and its label's weights. In evaluation mode a model with
a cosine head answers `scale * cosines`, without a margin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.composed import Cosines


def arcface_logits(output: Cosines, labels: Tensor, *, margin: float, scale: float) -> Tensor:
    """(N, C) float32: scale * cos(theta + margin) for the label, scale * cosine elsewhere.

    Source: Deng et al. 2019, ArcFace, arXiv:1801.07698, eq. 3. `margin` in radians, less than
    pi / 2; 0 is the softmax over scaled cosines. `labels`: (N,) int64. See `add_angle` for theta
    + margin beyond pi."""
    true, cosines = _of_label(output, labels)
    return _with_label(cosines, labels, add_angle(true, torch.full_like(true, margin))) * scale


def adaface_logits(
    output: Cosines, labels: Tensor, *, margin: float, scale: float, concentration: float
) -> Tensor:
    """(N, C) float32: scale * (cos(theta + g_angle) - g_add) for the label, scale * cosine
    elsewhere, with g_angle = -margin * z and g_add = margin * z + margin, z from `relative_norms`.

    Source: Kim et al. 2022, AdaFace, arXiv:2204.00964, section 3. A row of a short feature, a
    picture of poor quality, has z = -1 and ArcFace's margin; a long one is pushed harder where it
    is difficult; z = 0 is CosFace (Wang et al. 2018, arXiv:1801.09414). `labels`: (N,) int64."""
    true, cosines = _of_label(output, labels)
    z = relative_norms(output.norms, concentration)
    hardened = add_angle(true, -margin * z) - (margin * z + margin)
    return _with_label(cosines, labels, hardened) * scale


def relative_norms(norms: Tensor, concentration: float) -> Tensor:
    """(N,) float32 in [-1, 1], without gradient: (norm - mean) / deviation * concentration, clipped
    (AdaFace, section 3); a concentration of 1/3 puts nearly all of a normal distribution within.

    Mean and deviation are those of the batch alone. The paper keeps a moving average of them, a
    state that would make a resumed run, or a step done again, differ from one left alone. So they
    follow the micro-batch, as batch norm does; of one row, or of equal norms, the answer is 0."""
    norms = norms.detach().float()
    mean = norms.mean()
    deviation = norms.std(correction=0)
    # In proportion to the mean: differences by rounding must not count as differences in quality.
    centred = (norms - mean) / (deviation + 1e-3 * mean + torch.finfo(norms.dtype).tiny)
    return (centred * concentration).clamp(-1.0, 1.0)


def add_angle(cosines: Tensor, angles: Tensor) -> Tensor:
    """cos(theta + angle) from cos(theta), both (N,), angles within pi / 2 of 0. Its gradient is
    finite everywhere.

    Beyond pi the cosine would rise again and reward a worse row: there it goes on falling, as
    cos(theta) - angle * sin(angle) (the authors' code of ArcFace). Below 0 it is 1."""
    # The slope of the root is infinite at 0, where theta is 0 or pi.
    sines = (1.0 - cosines.square()).clamp_min(1e-6).sqrt()
    added = cosines * angles.cos() - sines * angles.sin()
    beyond = (angles > 0.0) & (cosines < -angles.cos())
    below = (angles < 0.0) & (cosines > angles.cos())
    added = torch.where(beyond, cosines - angles * angles.sin(), added)
    return torch.where(below, torch.ones_like(added), added)


def _of_label(output: Cosines, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) of the labels, and all (N, C), float32."""
    cosines = output.cosines.float()
    return cosines.gather(1, labels[:, None]).squeeze(1), cosines


def _with_label(cosines: Tensor, labels: Tensor, of_label: Tensor) -> Tensor:
    return cosines.scatter(1, labels[:, None], of_label[:, None])
