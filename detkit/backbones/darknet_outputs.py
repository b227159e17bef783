"""The outputs of a Darknet network: what [yolo] and [region] sections say of the maps they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detkit.backbones.darknet_layers import OUTPUTS, Layer
from detkit.backbones.darknet_sections import Section
from detkit.errors import DetkitError

YOLO_CLASSES, COORDS = 20, 4  # Darknet's default, and the numbers of a box
SAME_STRIDE = "+"  # behind the level's name for each further output of one stride


@dataclass(frozen=True)
class Output:
    """One [yolo] or [region] section: what the channels of its map mean.

    The map is (B, A·(5 + K), H, W): of each anchor x y w h, objectness, K classes.

    Attributes:
        kind: "yolo" or "region".
        level: name of the map that it reads, in the backbone's answer.
        layer: its number in the description.
        stride: pixels of the image a cell.
        classes: K.
        anchors: width and height of each of the A anchors here, pixels of the image; [region]
            gives them in cells, which is undone here.
        all_anchors: those of all outputs that share the list, which assigns objects to them.
        mask: which of `all_anchors` are here.
        softmax: whether the classes exclude each other (softmax), or not (a sigmoid each).
        scale_x_y: factor on the sigmoid of x and y about the cell's centre; 1 is YOLOv3's.
        settings: everything else that the section says, numbers as such: thresh, ignore_thresh,
            bias_match, classfix, rescore, object_scale, tree …
    """

    kind: str
    level: str
    layer: int
    stride: int
    classes: int
    anchors: tuple[tuple[float, float], ...]
    all_anchors: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    softmax: bool
    scale_x_y: float
    settings: Mapping[str, float | str]


def check_plain(output: Output, tree: bool = False) -> None:
    """
    Args:
        tree: whether its classes may form one.
    Raises:
        DetkitError: its numbers mean something else: classes that form a tree, boxes coded anew.
    """
    for key in ("new_coords", "background", *(() if tree else ("tree",))):
        if output.settings.get(key):
            raise DetkitError(
                f"Layer {output.layer} has {key}={output.settings[key]}: not decoded here.",
                remedy=f"decode the outputs of a network without {key}.",
            )


def outputs(
    parts: Sequence[Section], layers: Mapping[int, Layer], classes: int | None
) -> list[Output]:
    """The outputs of a network, in the description's order.

    Args:
        parts: the description without [net].
        layers: by number.
        classes: in place of what the sections say.
    Raises:
        DetkitError: anchors, classes and channels that do not agree, or a stride that is no power
            of 2.
    """
    found: list[Output] = []
    for section in parts:
        if section.name in OUTPUTS:
            source = layers[layers[section.layer].inputs[0]]
            found.append(_output(section, source, classes, {one.level for one in found}))
    return found


def _output(section: Section, source: Layer, classes: int | None, levels: set[str]) -> Output:
    stride = source.stride
    if stride is None or stride.denominator > 1 or (n := stride.numerator) & (n - 1):
        raise section.error(
            f"Its map has a stride of {stride}.", "detkit's levels have strides of 1, 2, 4, 8, …"
        )
    level = str(n.bit_length() - 1)
    while level in levels:
        level += SAME_STRIDE
    region = section.name == "region"
    numbers = section.numbers("anchors")
    unit = n if region else 1  # [region] counts in cells
    pairs = tuple((w * unit, h * unit) for w, h in zip(numbers[::2], numbers[1::2], strict=False))
    mask = anchors_here(section)
    if not mask or max(mask) >= len(pairs) or min(mask) < 0 or len(numbers) % 2:
        raise section.error(
            f"{len(numbers)} numbers in anchors do not give the anchors {list(mask)}.",
            "write width,height of each anchor; num and mask have to agree with them.",
        )
    coords = section.integer("coords", COORDS, COORDS, COORDS)
    own = section.integer("classes", YOLO_CLASSES, 1)
    needed = len(mask) * (coords + 1 + (classes or own))
    if source.channels != needed:
        raise section.error(
            f"{source.channels} channels come in; {len(mask)} anchors of {coords + 1} numbers and "
            f"{classes or own} classes are {needed}.",
            f"set filters={needed} in the convolution before it, or correct classes.",
        )
    typed = {"anchors", "mask", "num", "coords", "classes", "softmax", "scale_x_y"}
    return Output(
        kind=section.name,
        level=level,
        layer=section.layer,
        stride=n,
        classes=classes or own,
        anchors=tuple(pairs[i] for i in mask),
        all_anchors=pairs,
        mask=mask,
        softmax=region and bool(section.integer("softmax", 0, 0, 1)),
        scale_x_y=section.number("scale_x_y", 1.0),
        settings={k: _plain(v) for k, v in section.options.items() if k not in typed},
    )


def anchors_here(section: Section) -> tuple[int, ...]:
    """The anchors that an output uses; all of them where it says nothing, as [region] does."""
    return section.integers("mask") or tuple(range(section.integer("num", 1, 1, 1024)))


def first_classes(found: Sequence[Section]) -> int | None:
    """The classes of a description's first output, None where it has none."""
    own = (s.integer("classes", YOLO_CLASSES, 1) for s in found if s.name in OUTPUTS)
    return next(own, None)


def _plain(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value
