"""Class-activation maps: where a model looked for an answer.

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, section 3): maps of the backbone, each channel
weighed by the mean gradient of the answer, summed, cut at zero. For a detection the gradient counts
place by place (HiResCAM, Draelos and Carin 2020, arXiv:2011.08891): its mean over the picture would
light up every object of that kind. So it does on the pixels themselves, where a model has no map
but them (CapsNet): the mean over the picture of a band would show that band again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detkit.errors import DetkitError
from detkit.explain import canvas
from detkit.explain.page import Picture, Section
from detkit.explain.watching import Seen, denormalized, rgb
from detkit.predictions import Answer

MOST = 3  # answers, where none was chosen
SIDE = 420  # pixels
PIXELS = 3  # channels of a map, up to which they are the picture's own bands


@dataclass(frozen=True)
class Activation:
    """Where one answer comes from.

    Attributes:
        values: (h, w), not below 0.
        level: of the backbone, as its maps are called.
        call, row: which of the backbone's inputs it is: regions are several.
    """

    values: Tensor
    level: str
    call: int
    row: int


def activation(seen: Seen, answer: Answer) -> Activation | None:
    """Of the level that the answer depends on most; None where it depends on none.

    Source: Grad-CAM, equations 1 and 2.
    """
    leaves = [(call, level, t) for call, maps in enumerate(seen.maps) for level, t in maps.items()]
    if not answer.value.requires_grad or not leaves:
        return None
    tensors = [tensor for _, _, tensor in leaves]
    gradients = torch.autograd.grad(answer.value, tensors, retain_graph=True, allow_unused=True)
    best: tuple[float, Activation] | None = None
    for (call, level, maps), gradient in zip(leaves, gradients, strict=True):
        if gradient is None or maps.ndim != 4:
            continue
        by_place = answer.local or maps.shape[1] <= PIXELS
        weights = gradient if by_place else gradient.mean((2, 3), keepdim=True)
        shares = (weights * maps.detach()).sum(1)  # (B, h, w)
        strength = (gradient * maps.detach()).abs().sum((1, 2, 3))
        row = int(strength.argmax())
        if strength[row] > 0 and (best is None or float(strength[row]) > best[0]):
            found = Activation(shares[row].clamp(min=0).cpu(), level, call, row)
            best = float(strength[row]), found
    return best[1] if best else None


def section(seen: Seen, chosen: int | None) -> Section:
    """The maps of the surest answers, or of the chosen one.

    Args:
        chosen: from 1, the surest.
    Raises:
        DetkitError: there are not so many answers.
    """
    answers = seen.prediction.answers()
    if chosen is not None and chosen > len(answers):
        raise DetkitError(
            f"There are {len(answers)} answers, not {chosen}.",
            record="answer",
            remedy=f"choose 1 … {len(answers)}."
            if answers
            else "leave answer= out: the model says nothing of this picture.",
        )
    picked = answers[:MOST] if chosen is None else [answers[chosen - 1]]
    shown = []
    for answer in picked:
        found = activation(seen, answer)
        if found is not None:
            shown.append(_picture(seen, answer, found))
    text = "Grad-CAM: what in the picture the answer depends on, by the gradients of its score."
    if not picked:
        text += " The model found nothing in this picture."
    elif not shown:
        text += " The answers of this picture do not depend on the backbone's maps."
    return Section("Where it looked", text, shown)


def _picture(seen: Seen, answer: Answer, found: Activation) -> Picture:
    given = seen.calls["backbone"][found.call].inputs[0]
    whole = found.call == 0 and len(given) == 1 and len(seen.maps) == 1
    if whole:
        picture, values = seen.picture, inside(seen, found)
    else:  # of regions, each an image to the network, or of one of several scales
        picture = rgb(denormalized(given[found.row : found.row + 1], seen.model.mean_std)[0])
        values = found.values.numpy()
    side = max(picture.shape[:2])
    factor = SIDE / side if side < SIDE else 1.0
    large = canvas.resized(picture, *(round(n * factor) for n in picture.shape[:2]))
    drawn = canvas.over(large, values)
    if whole and answer.box is not None:
        box = answer.box.detach().cpu().numpy()[None] * factor
        drawn = canvas.boxes(drawn, box, [canvas.WHITE])
    shape = "×".join(map(str, found.values.shape))
    where = "what the network saw at once" if not whole else f"level {found.level}"
    text = f"From the {shape} cells of {where}: red counts most."
    if not found.values.any():
        text = f"None of the {shape} cells of {where} raises its score."
    return Picture(f"Activation for {answer.text}", text, drawn)


def inside(seen: Seen, found: Activation) -> np.ndarray:
    """The values of the picture's pixels, without padding and without what surrounds it.

    The map of convolutions that are not padded lies in the middle of what the backbone saw.
    """
    stride, margin = seen.model.backbone.strides[found.level], seen.model.margin
    sides = [n * stride for n in found.values.shape]
    large = torch.nn.functional.interpolate(
        found.values[None, None], size=sides, mode="bilinear", align_corners=False
    )[0, 0]
    whole = seen.calls["backbone"][found.call].inputs[0].shape[2:]
    top, left = (max(0, (n - side) // 2) for n, side in zip(whole, sides, strict=True))
    placed = large.new_zeros(whole)
    room = placed[top : top + sides[0], left : left + sides[1]]
    room.copy_(large[: room.shape[0], : room.shape[1]])
    tall, wide = seen.picture.shape[:2]
    return placed[margin : margin + tall, margin : margin + wide].numpy()
