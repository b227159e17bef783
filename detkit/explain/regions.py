"""The stages of detectors by regions: anchors, proposals, RoIs and their scores, masks, warps,
pyramids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.explain import canvas
from detkit.explain.page import Picture, Section
from detkit.explain.stages import (
    ROWS,
    Objects,
    corners,
    detections,
    drawn,
    map_over,
    matched_boxes,
    name_of,
    positives,
    stages_of,
    word,
)
from detkit.explain.watching import Seen, denormalized, rgb
from detkit.models.fast_rcnn import FastRCNN
from detkit.models.heads.box_head import BoxHead
from detkit.models.heads.mask_head import MaskHead
from detkit.models.heads.matching import BACKGROUND, IGNORED
from detkit.models.heads.rpn import RPN
from detkit.models.heads.scales import fitting
from detkit.models.heads.svm_head import SVMHead
from detkit.models.rcnn import RCNN
from detkit.models.region_svm import RegionSVM
from detkit.models.sppnet import SPPnet
from detkit.ops.roi_pool import pyramid_level
from detkit.ops.spatial_pyramid import BINS, windows

SHOWN = 100  # proposals on a picture
TILES = 24  # regions, masks
WINDOW = 200  # pixels of the long side of a window that is pooled


@stages_of.register
def _(module: RPN, name: str, seen: Seen, objects: Objects) -> list[Section]:
    maps, sizes = seen.calls[name][0].inputs[:2]
    proposals = seen.calls[name][0].output[0][0]
    pairs = zip(seen.calls[f"{name}.objectness"], seen.calls[f"{name}.deltas"], strict=True)
    outputs = [module.rows(o.output.detach(), d.output.detach()) for o, d in pairs]
    anchors = module.anchors(maps)
    boxes, scores, level = module.candidates(outputs, anchors, sizes, training=False)
    text = f"{sum(map(len, anchors)):,} anchors on {len(anchors)} maps, one score and box each."
    return [
        Section(
            "Anchors and proposals",
            text,
            [
                _shapes(module, anchors, maps, seen),
                *_objectness(outputs, maps, seen),
                _positives(module, anchors, sizes, seen, objects),
                _before(boxes[0], scores[0], level, seen),
                _after(proposals, len(boxes[0]), module, seen),
            ],
        )
    ]


def _shapes(module: RPN, anchors: list[Tensor], maps: list[Tensor], seen: Seen) -> Picture:
    """The anchors of the cell in the middle of each level."""
    height, width = seen.picture.shape[:2]
    chosen, labels = [], []
    per_cell = module.shapes.shape[1]
    for place, (level, features, stride) in enumerate(
        zip(anchors, maps, module.strides, strict=True)
    ):
        row = min(int(height / 2 / stride), features.shape[2] - 1)
        column = min(int(width / 2 / stride), features.shape[3] - 1)
        first = (row * features.shape[3] + column) * per_cell
        chosen.append(level[first : first + per_cell])
        labels += [place] * per_cell
    text = f"{per_cell} shapes in each cell; here those of the middle cell, a colour a level."
    return Picture("Anchors of a cell", text, drawn(seen, torch.cat(chosen), labels))


def _objectness(
    outputs: list[tuple[Tensor, Tensor]], maps: list[Tensor], seen: Seen
) -> list[Picture]:
    pictures = []
    for (logits, _), features in zip(outputs, maps, strict=True):
        rows, columns = features.shape[2:]
        best = logits[0].sigmoid().reshape(rows, columns, -1).amax(-1)
        text = f"The surest anchor of each cell says {float(best.max()):.2f} at most."
        title = f"Objectness on {rows}×{columns} cells"
        pictures.append(Picture(title, text, map_over(seen, best)))
    return pictures


def _positives(
    module: RPN, anchors: list[Tensor], sizes: Tensor, seen: Seen, objects: Objects
) -> Picture:
    joined, rules = torch.cat(anchors), module.anchor_rules
    matched = module.match(joined, sizes, [objects.targets])[0]
    level = [number for number, each in enumerate(anchors, 1) for _ in range(len(each))]
    positive = positives(joined, matched, objects)
    rows = [["anchor", "pixels", "level", "object", "IoU", "why it is positive"]]
    for anchor, which, iou in positive[:ROWS]:
        why = f"IoU from {rules.pos_iou:g} on"
        if iou < rules.pos_iou:
            why = f"below {rules.pos_iou:g}, but no anchor overlaps the object more"
        where = f"{level[anchor]} of {len(anchors)}"
        said = word(seen, objects, which)
        rows.append([f"{anchor:,}", corners(joined[anchor]), where, said, f"{iou:.2f}", why])
    background, ignored = (int((matched == kind).sum()) for kind in (BACKGROUND, IGNORED))
    text = (
        f"Matched to {objects.noun} (white): {len(positive):,} positive, {background:,} background"
        f" (IoU below {rules.neg_iou:g}), {ignored:,} of neither."
    )
    picture = matched_boxes(seen, joined, positive, objects)
    return Picture("Anchors that were positive", text, picture, rows if len(rows) > 1 else ())


def _before(boxes: Tensor, scores: Tensor, level: Tensor, seen: Seen) -> Picture:
    best = scores.argsort(descending=True)[:SHOWN]
    text = (
        f"{len(boxes):,} boxes: the best of each level, moved and resized by their deltas. Shown"
        f" are the {len(best)} best, a colour a level."
    )
    return Picture("Proposals before NMS", text, drawn(seen, boxes[best], level[best].tolist(), 1))


def _after(proposals: Tensor, before: int, module: RPN, seen: Seen) -> Picture:
    text = (
        f"{len(proposals):,} of {before:,} are left: of two of a level that overlap by more than"
        f" {module.rules.nms_iou:g} the worse one went. Shown are the {min(SHOWN, len(proposals))}"
        " best."
    )
    return Picture("Proposals after NMS", text, drawn(seen, proposals[:SHOWN], None, 1))


@stages_of.register
def _(module: BoxHead, name: str, seen: Seen, objects: Objects) -> list[Section]:
    return [_classified(seen, module, name, seen.calls[name][0].inputs[2][0])]


@stages_of.register
def _(module: FastRCNN, name: str, seen: Seen, objects: Objects) -> list[Section]:
    (rois,) = seen.batch.proposals or [torch.zeros(0, 4)]
    section = _classified(seen, module.head, "head", rois)
    section.pictures.insert(0, _proposals(seen, rois))
    return [section]


def _proposals(seen: Seen, rois: Tensor) -> Picture:
    text = f"{len(rois):,} boxes that may hold objects, made outside of the network."
    if len(rois) > SHOWN:
        text += f" Shown are the first {SHOWN}."
    return Picture("Proposals", text, drawn(seen, rois[:SHOWN], None, 1))


def _classified(seen: Seen, head: BoxHead, name: str, rois: Tensor) -> Section:
    """What a box head of that name made of (P, 4) RoIs."""
    (call,) = seen.calls[f"{name}.predictor"]
    logits, deltas = (output.detach() for output in call.output)
    scores = head.predictor.scores(call.inputs[0].detach(), logits)
    levels = head.extractor.levels
    which = [levels[i] for i in pyramid_level(rois, levels).tolist()]
    text = (
        f"{len(rois):,} RoIs, each pooled to {head.extractor.tail.size}² cells of one map, and"
        " classified."
    )
    pictures = [
        scored(seen, rois, scores, deltas, head.predictor.box_coder, which),
        detections(seen, len(rois), "regions"),
    ]
    return Section("RoIs and their scores", text, pictures)


def scored(
    seen: Seen, rois: Tensor, scores: Tensor, deltas: Tensor, coder, levels: list[int] | None = None
) -> Picture:
    """The regions that score most: each, and what became of it.

    Args:
        rois: (R, 4). scores: (R, K). deltas: (R, K or 1, 4).
        levels: of the map that each was pooled from.
    """
    if not len(rois):
        return Picture("Best regions", "There is no region.", drawn(seen, rois))
    best, label = scores.max(1)
    order = best.argsort(descending=True)[:ROWS]
    where = label[order] if deltas.shape[1] > 1 else torch.zeros_like(label[order])
    moved = coder.decode(deltas[order, where], rois[order])
    rows = [["region", "pixels", *(["map"] if levels else []), "class", "score", "box"]]
    for place, box in zip(order.tolist(), moved, strict=True):
        pooled = [f"stride {2 ** levels[place]}"] if levels else []
        name, score = name_of(seen, int(label[place])), f"{float(best[place]):.2f}"
        rows.append([str(place + 1), corners(rois[place]), *pooled, name, score, corners(box)])
    picture = drawn(seen, rois[order], label[order].tolist(), 1)
    factor = picture.shape[1] / seen.picture.shape[1]
    picture = canvas.boxes(picture, moved.cpu().numpy() * factor, [canvas.WHITE], 2)
    text = "Thin and in the colour of their class: the regions; white: the boxes made of them."
    return Picture(f"The {len(order)} best regions", text, picture, rows)


@stages_of.register
def _(module: MaskHead, name: str, seen: Seen, objects: Objects) -> list[Section]:
    prediction = seen.prediction
    tiles = [
        canvas.titled(canvas.enlarged(canvas.heat(mask.numpy()), 112), answer.text, 14)
        for mask, answer in zip(
            prediction.masks.detach().cpu().float()[:TILES], prediction.answers(), strict=False
        )
    ]
    if not tiles:
        return []
    side = prediction.masks.shape[-1]
    text = f"{side}×{side} cells in the box of each detection: yellow is the object's."
    return [Section("Masks", text, [Picture("Masks in their boxes", text, canvas.grid(tiles))])]


@stages_of.register
def _(module: RegionSVM, name: str, seen: Seen, objects: Objects) -> list[Section]:
    (rois,) = seen.batch.proposals or [torch.zeros(0, 4)]
    scores, deltas = (t.detach() for t in seen.output("head"))
    head = module.head
    assert isinstance(head, SVMHead)
    pictures = [_proposals(seen, rois)]
    if isinstance(module, RCNN) and len(rois):
        warped = torch.cat([call.inputs[0].detach() for call in seen.calls["backbone"]])
        pictures.append(_warped(seen, warped, scores))
    if isinstance(module, SPPnet) and len(rois):
        pictures.append(_pyramid(module, seen, rois, scores))
    pictures.append(scored(seen, rois, scores, deltas, head.box_coder))
    pictures.append(detections(seen, len(rois), "regions"))
    by = "its SVM" if head.solved else "the softmax of fine-tuning, since no SVM is solved yet"
    text = f"{len(rois):,} proposals, each classified by {by}."
    return [Section("Regions and their scores", text, pictures)]


def _warped(seen: Seen, regions: Tensor, scores: Tensor) -> Picture:
    """The regions as the network saw them, the best first."""
    best, label = scores.max(1)
    tiles = []
    for place in best.argsort(descending=True)[:TILES].tolist():
        region = rgb(denormalized(regions[place : place + 1], seen.model.mean_std)[0])
        said = f"{name_of(seen, int(label[place]))} {float(best[place]):.2f}"
        tiles.append(canvas.titled(canvas.resized(region, 112, 112), said, 14))
    side = regions.shape[-1]
    text = (
        f"Each proposal with some of what is around it, stretched to {side}×{side} pixels whatever"
        f" its shape. Shown are the {len(tiles)} that score most."
    )
    return Picture("Warped regions", text, canvas.grid(tiles))


def _pyramid(module: SPPnet, seen: Seen, rois: Tensor, scores: Tensor) -> Picture:
    """The window of the best proposal on the map, and what each of its bins holds."""
    chosen = int(scores.amax(1).argmax())
    which = fitting(rois, module.scales)  # the layers saw the proposals scale by scale
    scale = module.scales[which[chosen]]
    row = int((which.argsort(stable=True) == chosen).nonzero())
    vector = torch.cat([call.inputs[0].detach() for call in seen.calls["tail"]])[row].float()
    calls = [n for n in range(len(module.scales)) if n == 0 or (which == n).any()]
    maps = seen.maps[calls.index(int(which[chosen]))]
    (features,), (stride,) = maps.values(), module.backbone.strides.values()
    x0, y0, x1, y1 = windows(rois[[chosen]] * scale, stride, *features.shape[2:])[0].tolist()
    cells = torch.tensor([x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5])  # a cell's centre is its number
    height, width = seen.picture.shape[:2]
    left, top, right, bottom = (cells * stride / scale).round().int().clamp(min=0).tolist()
    left, top = min(left, width - 1), min(top, height - 1)
    window = seen.picture[top : max(bottom, top + 1), left : max(right, left + 1)]
    factor = WINDOW / max(window.shape[:2])
    window = canvas.resized(window, *(max(1, round(n * factor)) for n in window.shape[:2]))
    channels = len(vector) // sum(n * n for n in BINS)
    parts = vector.split([channels * n * n for n in BINS])
    tiles = [
        canvas.titled(
            canvas.cells_over(window, part.reshape(channels, n, n).mean(0).numpy()), f"{n}×{n}"
        )
        for n, part in zip(BINS, parts, strict=True)
    ]
    name, sizes = name_of(seen, int(scores[chosen].argmax())), ", ".join(f"{n}×{n}" for n in BINS)
    text = (
        f"The best proposal ({name}, {corners(rois[chosen])}) is a window of"
        f" {x1 - x0 + 1}×{y1 - y0 + 1} cells of the map. Of each of {sizes} bins the largest number"
        f" of each channel is kept: {len(vector):,} numbers whatever the window's size. Red: large,"
        " in the mean of the channels."
    )
    return Picture("Bins of the spatial pyramid", text, canvas.grid(tiles, columns=4, gap=8))
