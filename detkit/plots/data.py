"""`data.jpg`: what a run will learn from, looked at before its first step.

Some training pictures as the network gets them, with what is annotated on them; below them how many
objects each class has, and how large the objects are beside the anchors that have to catch them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from detkit.data.loading import Dataset, Keys
from detkit.draw import as_rgb, eight_bit, visible
from detkit.models.anchors import FITS, fitting
from detkit.plots import canvas
from detkit.plots.contact import contact_sheet
from detkit.predictions import Classification, Detections, Prediction, Segmentation
from detkit.structures import IGNORE, Targets

PICTURES = 12
LARGEST = 400  # pixels a side of a picture on the sheet: small ones are enlarged
BARS = 40  # classes that have one


@dataclass(frozen=True)
class Objects:
    """What is there to learn, in numbers.

    Attributes:
        counts: (K,) int64 objects, images or pixels of each class, see `noun`.
        noun: what is counted.
        sizes: (N, 2) widths and heights of objects, pixels of the network's image; or None.
        anchors: (A, 2) of the model, or None.
        strides: of the maps that it reads.
    """

    counts: np.ndarray
    noun: str
    sizes: np.ndarray | None
    anchors: np.ndarray | None
    strides: Sequence[int]

    def misfits(self) -> float | None:
        """Share of the objects that no anchor fits, without anchors those below a cell's side."""
        if self.sizes is None or not len(self.sizes):
            return None
        if self.anchors is not None:
            return float(1 - fitting(self.sizes, self.anchors).mean())
        return float((self.sizes.max(1) < min(self.strides)).mean()) if self.strides else None


def first_keys(keys: Keys, number: int = PICTURES) -> list[tuple[int, ...]]:
    """Those of the first pictures that the run will see."""
    found: list[tuple[int, ...]] = []
    for batch in keys:
        found += batch
        if len(found) >= number:
            break
    return found[:number]


def annotated(targets: Targets, names: Sequence[str], needs: frozenset[str]) -> Prediction:
    """What the network is told of a picture, as a prediction to be drawn."""
    if targets.pixels is not None:
        return Segmentation(torch.zeros(0), tuple(names), annotated=targets.pixels)
    if "boxes" not in needs and targets.image_label is not None:
        known = int(targets.image_label)
        scores = torch.eye(len(names))[known] if known >= 0 else torch.zeros(0)
        return Classification(scores, tuple(names), annotated=True)
    scores = torch.ones(len(targets))
    return Detections(
        targets.boxes, scores, targets.labels, tuple(names), masks=targets.masks, annotated=True
    )


def draw(
    dataset: Dataset,
    keys: Sequence[tuple[int, ...]],
    objects: Objects,
    names: Sequence[str],
    file: Path,
) -> None:
    """Writes `data.jpg`, and its numbers.

    Args:
        dataset: of training, with its random changes.
        keys: of the pictures to show.
        names: of the classes.
    """
    pictures, captions, shown = [], [], []
    for key in keys:
        loaded = dataset[key]
        image = loaded.image.permute(1, 2, 0).numpy()
        image = as_rgb(visible(eight_bit(image)))
        size = (image.shape[0], image.shape[1])
        factor = max(1, round(LARGEST / max(size)))
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        prediction = annotated(loaded.targets, names, dataset.needs)
        pictures.append(prediction.enlarged(size, factor).draw(large))
        name = Path(loaded.frame.file).name or str(loaded.frame.image_id)
        captions.append(f"{name[-28:]}  {size[1]}×{size[0]}")
        shown.append({"file": loaded.frame.file, "width": size[1], "height": size[0]})
    parts = [contact_sheet(pictures, captions)] if pictures else []
    parts.append(_charts(objects, names))
    numbers: dict[str, Any] = {
        "pictures": shown,
        objects.noun: dict(zip(names, objects.counts.tolist(), strict=True)),
        "strides": list(objects.strides),
    }
    if objects.sizes is not None and len(objects.sizes):
        sides = np.sqrt(objects.sizes.prod(1))
        edges, heights = _histogram(sides)
        numbers |= {
            "side": {
                "unit": "pixels of the network's picture, square root of the area",
                "edges": edges.round(2).tolist(),
                "objects": heights.tolist(),
                "median": round(float(np.median(sides)), 2),
            },
            "anchors": None if objects.anchors is None else objects.anchors.round(2).tolist(),
            "fit_no_anchor": objects.misfits(),
        }
    canvas.save_picture(canvas.stacked(parts), file, numbers)


def _charts(objects: Objects, names: Sequence[str]) -> np.ndarray:
    sized = objects.sizes is not None and len(objects.sizes) > 0
    order = np.argsort(-objects.counts, kind="stable")
    if len(order) > BARS:  # the most frequent and the rarest
        order = np.concatenate([order[: BARS // 2], order[-BARS // 2 :]])
    labels = [canvas.short(names[k]) for k in order]
    height = max(300, 90 + 17 * len(order))
    with canvas.sheet(1600, height, names, ncols=1 + sized, squeeze=False) as (figure, axes):
        bars = axes[0][0]
        places = np.arange(len(order))
        bars.barh(places, objects.counts[order], color=[canvas.paint(int(k)) for k in order])
        bars.set_yticks(places, labels)
        bars.invert_yaxis()
        bars.grid(axis="y", visible=False)
        left_out = len(objects.counts) - len(order)
        more = f" (the {left_out} between are left out)" if left_out else ""
        bars.set_title(f"{objects.noun} of each class{more}")
        for place, count in zip(places, objects.counts[order], strict=True):
            bars.annotate(f" {count:,}", (count, place), va="center", fontsize=8)
        bars.margins(x=0.12)
        bars.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if sized:
            _sizes(axes[0][1], objects)
        return canvas.pixels(figure)


def _histogram(sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges, a sixth of an octave apart, and how many are between them."""
    low, high = np.log2(max(sides.min(), 0.5)), np.log2(max(sides.max(), 1.0))
    edges = 2 ** np.arange(np.floor(low * 6) / 6, np.ceil(high * 6 + 1) / 6 + 1 / 12, 1 / 6)
    return edges, np.histogram(np.maximum(sides, 0.5), edges)[0]


def _sizes(axes: Any, objects: Objects) -> None:
    assert objects.sizes is not None
    sides = np.sqrt(objects.sizes.prod(1))
    edges, heights = _histogram(sides)
    axes.stairs(heights, edges, fill=True, color="#4c78a8")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    misfits = objects.misfits()
    if objects.anchors is not None:
        lines = np.unique(np.sqrt(objects.anchors.prod(1)).round())
        what, colour = "anchors", "#d62728"
    else:
        lines, what, colour = np.array(sorted({*objects.strides}), float), "strides", "#2ca02c"
    for place, line in enumerate(lines):
        label = f"{what}: {_few(lines)}" if place == 0 else None
        axes.axvline(line, color=colour, linewidth=1.2, label=label, zorder=1)
    if len(lines):
        axes.set_ylim(0, heights.max() * 1.25)  # room for the legend
        axes.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")
    title = "sides of the objects, pixels of the network's picture (√ of the area)"
    if misfits is not None:
        total = f"of {len(sides):,}"
        title += (
            f"\n{1 - misfits:.0%} {total} are overlapped by an anchor by more than {FITS:g} (IoU)"
            if objects.anchors is not None
            else f"\n{misfits:.0%} {total} are smaller than a cell of the finest map"
        )
    axes.set_title(title)
    axes.set_ylabel("objects")


def _few(lines: np.ndarray) -> str:
    texts = [f"{line:g}" for line in lines]
    return ", ".join(texts if len(texts) <= 9 else [*texts[:4], "…", *texts[-4:]])


def counted(
    dataset: Dataset, keys: Sequence[tuple[int, ...]], classes: int
) -> tuple[np.ndarray, str]:
    """(K,) of what there is of each class, and what that is; pixels those of the keys' pictures."""
    records, needs = dataset.records, dataset.needs
    if "boxes" in needs:
        return np.bincount(records.labels[~records.crowd], minlength=classes), "objects"
    if records.image_labels is not None:
        known = records.image_labels[records.image_labels >= 0]
        return np.bincount(known, minlength=classes), "images"
    total = np.zeros(classes, np.int64)
    for key in keys:
        pixels = dataset[key].targets.pixels
        if pixels is not None:
            values = pixels[pixels != IGNORE].long()
            total += np.bincount(values.numpy(), minlength=classes)[:classes]
    return total, "pixels on these pictures"
