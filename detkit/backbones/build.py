"""Backbones by name, cut to the levels that are asked, with weights, frozen parts and a neck."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from detkit.backbones import pretrained
from detkit.backbones.backbone import Backbone, Tail, Trunk, backbones
from detkit.backbones.fpn import FPN
from detkit.backbones.norms import freeze_norms
from detkit.errors import DetkitError, unknown
from detkit.ranges import Count, Natural

NORMS = ("auto", "frozen", "train")
NECK = ("fpn_channels",)
DECIDED = (
    "name",
    "tail",
    "strict",
    "allow_download",
    "logits",
    "padded",
    "own",
)  # by whoever builds
BEYOND = 3  # levels that a pyramid may be asked for beyond the network's last one
COARSEST = "coarsest"  # as a level: the last one that the network has
PYRAMID = ("2", "3", "4", "5")  # the paper's, where `levels` says nothing


def build(
    name: str,
    *,
    levels: Sequence[str | int] | None = None,
    tail: bool = False,
    strict: bool = True,
    weights: str = "none",
    allow_download: bool = False,
    frozen_stages: Natural = 0,
    norm: str = "auto",
    width: float = 1.0,
    in_channels: Count | None = None,
    fpn_channels: Count = 256,
    logits: int | None = None,
    padded: bool = True,
    **own: Any,
) -> tuple[Backbone, Tail | None]:
    """The backbone of that name, with an FPN on it where the name ends in `_fpn`, and its tail.

    Args:
        levels: the maps that come out, by the logarithm of their stride. None: all that exist (in
            front of the tail, if there is one); with an FPN those of "2" … "5" and the next one.
        tail: also build the stages behind the last of these levels.
        strict: whether a level that does not exist is an error, or left out (a model asks so).
        weights: "none", a file, or "imagenet": torchvision's published file of that network.
        allow_download: "imagenet" may fetch that file.
        frozen_stages: so many of the first stages are not trained, their norms included.
        norm: "auto" freezes the batch norms whose weights came from the file, "frozen" all of them,
            "train" none.
        width: multiplies every channel count, except `fpn_channels`.
        in_channels: of the images: 3 for RGB, 1 for grey; None: as the data have them.
        fpn_channels: width of the pyramid.
        padded: without it the convolutions have no padding, in a network that can go without.
        logits: give the tail the network's last layer, for so many classes.
        own: that network's own settings; `settings(name)` lists them.
    Raises:
        DetkitError: a name, setting, level or weights file that does not fit.
    """
    base, fpn = split(name)
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    for key in own:
        if key not in backbones.settings(base):
            raise unknown(f"setting of the backbone {name}", key, settings(name))
    if width <= 0 or fpn_channels < 1:
        key, value = ("fpn_channels", fpn_channels) if width > 0 else ("width", width)
        raise DetkitError(f"backbone.{key} is above 0, not {value}.", remedy="leave it out.")
    if not padded:
        own |= _unpadded(base)
    trunk = backbones[base](width=width, **_channels(base, in_channels), **own)
    if not isinstance(trunk, Trunk):
        raise DetkitError(
            f"The backbone {base} is a {type(trunk).__name__}, not a Trunk.",
            remedy="derive it from detkit.backbones.backbone.Trunk, as CONTRIBUTING.md shows.",
        )
    known = frozenset(trunk.state_dict())
    coarsest, whole = list(trunk.channels)[-1], levels is not None and COARSEST in levels
    if tail and (fpn or (trunk.tail_size is None and not whole)):
        raise _no_tail(name)
    asked = _levels(name, trunk, levels, tail, strict, fpn)
    behind = trunk.make_tail(asked[-1]) if tail else None
    if behind is not None and logits is not None:
        behind.add_logits(logits, trunk.logits_dropout)
    beyond = any(level not in trunk.channels for level in asked)  # made from the last one
    trunk.keep([n for n in trunk.channels if n in asked or (beyond and n == coarsest)])
    if weights != "none":
        imagenet, published = weights == "imagenet", trunk.published or base
        file = pretrained.find_imagenet(published, allow_download) if imagenet else weights
        trunk.weights_report = pretrained.load(trunk, behind, known, file, norm)
    if norm == "frozen":
        freeze_norms(trunk)
        if behind is not None:
            freeze_norms(behind)
    _freeze(trunk, frozen_stages)
    return FPN(trunk, fpn_channels, asked) if fpn else trunk, behind


def _channels(base: str, in_channels: int | None) -> dict[str, int]:
    if "in_channels" in backbones.settings(base):
        return {"in_channels": in_channels or 3}
    if in_channels in (None, 3):
        return {}
    raise DetkitError(
        f"The backbone {base} takes pictures of 3 channels, not of {in_channels}.",
        remedy="set backbone.in_channels=3, or choose another backbone.",
    )


def _unpadded(base: str) -> dict[str, bool]:
    having = [name for name in backbones.names() if "padded" in backbones.entry(name).fixed]
    if base in having:
        return {"padded": False}
    raise DetkitError(
        f"The backbone {base} has no form without padding, which this model is made of.",
        remedy=f"set backbone={' or backbone='.join(having)}, or choose model=unet, which takes any"
        " backbone.",
    )


def names() -> list[str]:
    """The registered backbones, each also with an FPN on it."""
    return sorted(name + neck for name in backbones.names() for neck in ("", "_fpn"))


def settings(name: str) -> dict[str, inspect.Parameter]:
    """What a user can set of that backbone: `build`'s arguments and the network's own.

    Not those that whoever builds a model decides.
    """
    base, fpn = split(name)
    decided = (*DECIDED, *(() if fpn else NECK))
    general = inspect.signature(build, eval_str=True).parameters
    own = {k: p for k, p in backbones.settings(base).items() if k not in general}
    return {k: p for k, p in general.items() if k not in decided} | own


def self_contained(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """`name` and settings that rebuild the network anywhere: no file is needed but a checkpoint."""
    return part(backbone["name"]).self_contained(backbone)


def part(name: str) -> Any:
    """The class of the network below, to ask what stands on it."""
    return backbones.part(split(name)[0])


def split(name: str) -> tuple[str, bool]:
    """The network's own name, and whether an FPN stands on it.

    Raises:
        DetkitError: there is no such backbone.
    """
    fpn = name not in backbones and name.endswith("_fpn")
    base = name.removesuffix("_fpn") if fpn else name
    if base not in backbones:
        every = ", ".join(backbones.names())
        raise unknown("backbone", name, names(), f"choose one of: {every}; each also with _fpn.")
    return base, fpn


def _levels(
    name: str,
    trunk: Trunk,
    levels: Sequence[str | int] | None,
    tail: bool,
    strict: bool,
    fpn: bool,
) -> list[str]:
    """The levels that come out, finest first."""
    exist = list(trunk.channels)
    if levels is not None and COARSEST in levels:
        return exist[-1:]
    if fpn:
        first = trunk.strides[exist[-1]].bit_length()
        exist += [str(first + i) for i in range(BEYOND if levels and strict else 1)]
    if levels is None:
        if fpn:
            own = [n for n in trunk.channels if n in PYRAMID]
            return [*own, str(int(own[-1]) + 1) if own else exist[-1]]
        return [n for n in exist if not tail or trunk.strides[n] <= 16]
    asked = {str(n) for n in ([levels] if isinstance(levels, (str, int)) else levels)}
    missing = sorted(asked.difference(exist))
    if len(missing) == len(asked) or (missing and strict):
        raise DetkitError(
            f"{name} has no level {', '.join(missing)}." if asked else "No level is asked for.",
            remedy=f"choose among {', '.join(exist)} (level n has stride 2 to the n).",
        )
    return [n for n in exist if n in asked]


def _freeze(trunk: Trunk, count: int) -> None:
    stages = trunk.stages()
    if not 0 <= count <= len(stages):
        raise DetkitError(
            f"frozen_stages is {count}, but {len(stages)} stages are built.",
            remedy=f"set backbone.frozen_stages to 0 … {len(stages)}.",
        )
    for stage in stages[:count]:
        nn.ModuleList(stage).requires_grad_(False)
    prefixes = tuple(n for names in list(trunk.path.values())[:count] for n in names)
    freeze_norms(trunk, lambda n: n in prefixes or n.startswith(tuple(f"{p}." for p in prefixes)))


def _no_tail(name: str) -> DetkitError:
    having = [n for n in backbones.names() if getattr(backbones.part(n), "tail_size", None)]
    return DetkitError(
        f"The backbone {name} has no upper stages left for a head that wants them.",
        remedy=f"choose one of {', '.join(having)}, or a model without such a head.",
    )
