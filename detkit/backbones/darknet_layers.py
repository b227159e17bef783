"""Darknet's layers: what a section of a .cfg builds, as a module with the shape of its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fractions import Fraction
from typing import NamedTuple

from torch import nn

from detkit.backbones.backbone import Chain, scaled
from detkit.backbones.darknet_modules import ACTIVATIONS, MaxPool, Reorg, Route, Shortcut
from detkit.backbones.darknet_sections import Section

OUTPUTS = ("yolo", "region")
MOST_WEIGHTS = 2**27  # of one convolution; a layer of YOLO9000 has 29 million, VGG's fc6 103
# Darknet adds 1e-6 to the deviation, some of its builds 1e-5 to the variance; this is what OpenCV's
# reader adds to the variance
NORM_EPS = 1e-6
TRAINING = {"learning_rate", "stopbackward", "onlyforward", "clip", "burnin_update"}  # of any layer


class Layer(NamedTuple):
    """A layer in its place.

    Attributes:
        module: takes the outputs of `inputs`, in that order.
        inputs: indices of the layers that it reads; −1 is the image.
        channels: of its output; 0 where no layer may read it.
        stride: pixels of the image a cell, None once nothing of the image's shape is left.
    """

    module: nn.Module
    inputs: tuple[int, ...]
    channels: int
    stride: Fraction | None


class Shape(NamedTuple):
    """What of the layers before a builder sees: `channels` and `stride` by index."""

    channels: int
    stride: Fraction | None


Before = Sequence[Shape]  # of layer i at [i + 1]; the image is the first


def convolutional(section: Section, before: Before, width: float, exact: int | None) -> Layer:
    """Convolution, batch norm where it is asked, activation.

    Args:
        exact: the filters that there have to be, whatever the width and the section say.
    """
    section.check(
        {"filters", "size", "stride", "pad", "padding", "activation", "batch_normalize", "groups"}
        | TRAINING,
        {"dilation": "1", "flipped": "0", "binary": "0", "xnor": "0", "antialiasing": "0"},
    )
    index, shape = _previous(section, before)
    size = section.integer("size", 1, 1, 1024)
    stride = section.integer("stride", 1, 1, 1024)
    groups = section.integer("groups", 1, 1)
    padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0, 0, 1024)
    norm = bool(section.integer("batch_normalize", 0, 0, 1))
    filters = exact or scaled(section.integer("filters", 1, 1), width)
    if width != 1 and groups > 1:
        groups = scaled(groups, width)  # a depthwise convolution stays one
    for what, value in (("filters", filters), ("channels before it", shape.channels)):
        if value % groups:
            raise section.error(
                f"{value} {what} cannot be shared out to {groups} groups.",
                "correct groups or filters.",
            )
    if (weights := filters * (shape.channels // groups) * size**2) > MOST_WEIGHTS:
        raise section.error(
            f"It has {weights:,} weights.", "correct filters or size; no network has so many."
        )
    chain: list[nn.Module] = [
        nn.Conv2d(shape.channels, filters, size, stride, padding, groups=groups, bias=not norm)
    ]
    if norm:
        chain.append(nn.BatchNorm2d(filters, eps=NORM_EPS))
    if (name := section.choice("activation", "logistic", ACTIVATIONS)) != "linear":
        chain.append(ACTIVATIONS[name]())
    return Layer(Chain(*chain), (index,), filters, _times(shape.stride, stride))


def maxpool(section: Section, before: Before) -> Layer:
    section.check({"size", "stride", "padding"} | TRAINING, {"maxpool_depth": "0"})
    index, shape = _previous(section, before)
    stride = section.integer("stride", 1, 1, 1024)
    size = section.integer("size", stride, 1, 1024)
    padding = section.integer("padding", size - 1, 0, 2 * size - 2)
    return Layer(
        MaxPool(size, stride, padding), (index,), shape.channels, _times(shape.stride, stride)
    )


def avgpool(section: Section, before: Before) -> Layer:
    section.check(TRAINING, {})
    index, shape = _previous(section, before)
    return Layer(nn.AdaptiveAvgPool2d(1), (index,), shape.channels, None)


def route(section: Section, before: Before) -> Layer:
    section.check({"layers", "groups", "group_id"} | TRAINING, {})
    groups = section.integer("groups", 1, 1)
    group = section.integer("group_id", 0, 0, groups - 1)
    layers = section.integers("layers")
    if not layers:
        raise section.error("It names no layers.", "write layers=N or a list.")
    inputs = tuple(_source(section, before, layer) for layer in layers)
    shapes = [before[index + 1] for index in inputs]
    for shape in shapes:
        if shape.stride != shapes[0].stride:
            raise section.error(
                f"It joins maps of strides {shapes[0].stride} and {shape.stride}.",
                "correct layers: maps have to be of one size.",
            )
        if shape.channels % groups:
            raise section.error(
                f"{shape.channels} channels cannot be shared out to {groups} groups.",
                "correct groups or layers.",
            )
    channels = sum(shape.channels // groups for shape in shapes)
    return Layer(Route(groups, group), inputs, channels, shapes[0].stride)


def shortcut(section: Section, before: Before) -> Layer:
    section.check(
        {"from", "activation"} | TRAINING,
        {"weights_type": "none", "alpha": "1", "beta": "1"},
    )
    index, shape = _previous(section, before)
    if len(layers := section.integers("from")) != 1:
        raise section.error(f"It adds {len(layers)} layers.", "write from=N, of one layer.")
    added = _source(section, before, layers[0])
    name = section.choice("activation", "linear", ACTIVATIONS)
    return Layer(Shortcut(ACTIVATIONS[name]()), (index, added), shape.channels, shape.stride)


def upsample(section: Section, before: Before) -> Layer:
    section.check({"stride"} | TRAINING, {"scale": "1"})
    index, shape = _previous(section, before)
    stride = section.integer("stride", 2, 1, 1024)
    module = nn.Upsample(scale_factor=stride, mode="nearest")
    return Layer(module, (index,), shape.channels, _times(shape.stride, Fraction(1, stride)))


def reorg(section: Section, before: Before) -> Layer:
    section.check({"stride"} | TRAINING, {"reverse": "0", "flatten": "0", "extra": "0"})
    index, shape = _previous(section, before)
    stride = section.integer("stride", 1, 1, 64)
    if shape.channels % stride**2:
        raise section.error(
            f"{shape.channels} channels are no multiple of {stride**2}.",
            "correct the filters before it, or stride.",
        )
    channels = shape.channels * stride**2
    return Layer(Reorg(stride), (index,), channels, _times(shape.stride, stride))


def dropout(section: Section, before: Before) -> Layer:
    section.check({"probability"} | TRAINING, {"dropblock": "0"})
    index, shape = _previous(section, before)
    probability = section.number("probability", 0.5)
    if not 0 <= probability < 1:
        raise section.error(f"probability is {probability}.", "set it from 0 to below 1.")
    return Layer(nn.Dropout(probability), (index,), *shape)


def loss(section: Section, before: Before) -> Layer:
    """[softmax] and [cost]: of a classifier's training alone; the logits pass."""
    index, shape = _previous(section, before)
    return Layer(nn.Identity(), (index,), *shape)


def output(section: Section, before: Before) -> Layer:
    """[yolo] and [region]: what they read is an output of the network, and nothing reads them."""
    index, shape = _previous(section, before)
    return Layer(nn.Identity(), (index,), 0, shape.stride)


BUILDERS: dict[str, Callable[[Section, Before], Layer]] = {
    "avgpool": avgpool,
    "cost": loss,
    "dropout": dropout,
    "maxpool": maxpool,
    "region": output,
    "reorg": reorg,
    "route": route,
    "shortcut": shortcut,
    "softmax": loss,
    "upsample": upsample,
    "yolo": output,
}
SHORT = {"avg": "avgpool", "conv": "convolutional", "max": "maxpool", "soft": "softmax"}
YOLO_V1 = "YOLOv1 is detkit's model=yolo_v1 or model=fast_yolo, without a .cfg"
RECURRENT = "there are no recurrent networks in detkit"
INSTEAD = {  # of Darknet's other layers
    **dict.fromkeys(("local", "connected", "conn", "detection"), YOLO_V1),
    "crop": "delete the section and write the size of its crops as width and height of [net];"
    " transforms= crops pictures",
    "gaussian_yolo": "write [yolo] and filters=A·(5 + classes) before it: detkit's boxes have no"
    " variances",
    **dict.fromkeys(("deconvolutional", "deconv"), "use [upsample] and [convolutional]"),
    **dict.fromkeys(("rnn", "gru", "lstm", "crnn", "conv_lstm"), RECURRENT),
}


def build(section: Section, before: Before, width: float, exact: int | None) -> Layer:
    """The layer of a section.

    Args:
        before: the image, then the layers before this one.
        width: multiplies the filters.
        exact: the filters of a convolution in front of an output.
    Raises:
        DetkitError: a layer or option that is unknown, or does not fit the layers before.
    """
    name = SHORT.get(section.name, section.name)
    if name == "convolutional":
        return convolutional(section, before, width, exact)
    if name not in BUILDERS:
        raise section.error(f"The layer [{section.name}] is not known here.", instead_of(name))
    return BUILDERS[name](section, before)


def instead_of(name: str) -> str:
    """The remedy for a layer that is not known."""
    if name in INSTEAD:
        return f"{INSTEAD[name]}."
    known = sorted({*BUILDERS, "convolutional"})
    if close := get_close_matches(name, known, 1, cutoff=0.8):
        return f"write [{close[0]}], if that is meant."
    return f"use a network of {', '.join(known)}."


def _previous(section: Section, before: Before) -> tuple[int, Shape]:
    index = _source(section, before, -1)
    return index, before[index + 1]


def _source(section: Section, before: Before, layer: int) -> int:
    """The index of a layer that is named from the beginning, or backwards by a negative number."""
    index = section.layer + layer if layer < 0 else layer
    first = -1 if section.layer == 0 else 0  # the first layer reads the image
    if not first <= index < section.layer:
        raise section.error(
            f"It reads layer {layer}, which is not before it.",
            f"name layers from 0 to {section.layer - 1}, or back from −1.",
        )
    if not before[index + 1].channels:
        raise section.error(
            f"It reads layer {index}, whose output is predictions.",
            "put a [route] to the layer that is meant in front of it.",
        )
    return index


def _times(stride: Fraction | None, factor: int | Fraction) -> Fraction | None:
    return None if stride is None else stride * factor
