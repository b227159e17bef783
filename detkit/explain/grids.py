"""The stages of detectors by cells: YOLO's grids, SSD's default boxes, a localizer's votes."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.draw import colour
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
    outlined,
    positives,
    scene,
    stages_of,
    word,
)
from detkit.explain.watching import Seen
from detkit.models.heads.grid_head import GridHead
from detkit.models.heads.ssd_head import SSDHead, boxes_in_images, default_boxes, rows_of
from detkit.models.localizer import Localizer, votes
from detkit.models.yolo_v1 import YOLOv1
from detkit.ops import grid
from detkit.structures import content_mask

SHOWN = 100


@stages_of.register
def _(module: GridHead, name: str, seen: Seen, objects: Objects) -> list[Section]:
    outputs = [output.detach() for output in seen.calls[name][0].inputs[0]]
    shapes = [(output.shape[2], output.shape[3]) for output in outputs]
    rows = [module.rows(output)[0] for output in outputs]
    sure = [r[:, 4].sigmoid() for r in rows]
    pictures = [
        Picture(
            f"Confidence of {height}×{width} cells",
            f"The surest of {count} anchors in each cell of {stride} pixels; {float(s.max()):.2f}"
            " at most.",
            map_over(seen, s.reshape(height, width, count).amax(-1)),
        )
        for (height, width), count, stride, s in zip(
            shapes, module.counts, module.strides, sure, strict=True
        )
    ]
    pictures.append(_answering(module, shapes, torch.cat(sure), seen, objects))
    pictures.append(detections(seen, sum(map(len, sure)), "boxes"))
    text = (
        f"{sum(map(len, sure)):,} predictors: each anchor of each cell says a box, how sure it is"
        " that an object's centre lies in the cell, and of which class the object would be."
    )
    return [Section("Cells and their confidence", text, pictures)]


def _answering(
    module: GridHead,
    shapes: list[tuple[int, int]],
    sure: Tensor,
    seen: Seen,
    objects: Objects,
) -> Picture:
    """The cell and the anchor that answer for each object."""
    targets = objects.targets
    chosen = grid.responsible(targets.boxes, shapes, module.strides, module.anchors)
    places = grid.grid(shapes, module.strides, module.anchors, module.scales)
    sides = torch.cat(
        [torch.full((h * w * n,), float(s)) for (h, w), n, s in
         zip(shapes, module.counts, module.strides, strict=True)]
    )  # fmt: skip
    picture, factor = scene(seen)
    heads = ["object", "stride", "cell (row, column)", "anchor", "confidence"]
    table = [heads]
    for number, place in enumerate(chosen.tolist()):
        side, (width, height) = float(sides[place]), places.anchors[place].tolist()
        middle = places.corners[place] + places.strides[place] / 2
        column, row = (int(value / side) for value in middle.tolist())
        cell = torch.tensor([[column, row, column + 1, row + 1]]) * side
        centre = (cell[:, :2] + side / 2).repeat(1, 2)
        anchor = centre + torch.tensor([[-width, -height, width, height]]) / 2
        ink = colour(number + 1)
        picture = canvas.boxes(picture, cell.numpy() * factor, [ink], -1)
        picture = canvas.boxes(picture, anchor.numpy() * factor, [ink], 1)
        if number < ROWS:
            size = f"{width:.0f}×{height:.0f}"
            said = f"{float(sure[place]):.2f}"
            label = word(seen, objects, number)
            table.append([label, f"{side:.0f}", f"{row}, {column}", size, said])
    picture = outlined(picture, seen, targets.boxes)
    text = (
        f"For {objects.noun} (white): the filled cell holds the object's centre, and of its anchors"
        " (thin) the one of the most similar shape answers."
    )
    if not len(targets):
        text += " There is no object; a lower score_thresh= shows more of them."
    return Picture("Cells that answer", text, picture, table if len(table) > 1 else ())


@stages_of.register
def _(module: YOLOv1, name: str, seen: Seen, objects: Objects) -> list[Section]:
    side, count = module.cells, module.boxes
    cells = seen.output("head").detach().float().reshape(side**2, -1)
    sure = cells[:, : 5 * count].reshape(-1, count, 5)[..., 4].clamp(0, 1)
    classes = cells[:, 5 * count :]
    picture, factor = scene(seen)
    step = module.side / side
    label = classes.argmax(1)
    colours, tiles = [], []
    for place in range(side**2):
        row, column = divmod(place, side)
        tiles.append([column * step, row * step, (column + 1) * step, (row + 1) * step])
        colours.append(colour(int(label[place])))
    tinted = canvas.boxes(picture, torch.tensor(tiles).numpy() * factor, colours, -1)
    tinted = (picture * 0.5 + tinted * 0.5).round().astype(picture.dtype)
    names = sorted({name_of(seen, k) for k in label.tolist()})
    pictures = [
        Picture(
            f"Confidence of {side}×{side} cells",
            f"The surer of {count} boxes of each cell; {float(sure.max()):.2f} at most.",
            map_over(seen, sure.amax(1).reshape(side, side)),
        ),
        Picture(
            "Class of each cell",
            f"Which class an object would be of, were its centre there: {', '.join(names[:8])}.",
            tinted,
        ),
        _cells_of(seen, objects, sure, side, step),
        detections(seen, side**2 * count, "boxes"),
    ]
    text = f"{side}×{side} cells; each says {count} boxes and, once, a class."
    return [Section("Cells and their confidence", text, pictures)]


def _cells_of(seen: Seen, objects: Objects, sure: Tensor, side: int, step: float) -> Picture:
    picture, factor = scene(seen)
    table = [["object", "cell (row, column)", "confidence"]]
    for number, box in enumerate(objects.targets.boxes.cpu()):
        column, row = (
            min(side - 1, max(0, int(value / step))) for value in ((box[:2] + box[2:]) / 2).tolist()
        )
        cell = torch.tensor([[column, row, column + 1, row + 1]]) * step
        picture = canvas.boxes(picture, cell.numpy() * factor, [colour(number + 1)], -1)
        if number < ROWS:
            said = f"{float(sure[row * side + column].max()):.2f}"
            table.append([word(seen, objects, number), f"{row}, {column}", said])
    picture = outlined(picture, seen, objects.targets.boxes)
    text = f"For {objects.noun} (white) the cell that holds the centre answers."
    return Picture("Cells that answer", text, picture, table if len(table) > 1 else ())


@stages_of.register
def _(module: SSDHead, name: str, seen: Seen, objects: Objects) -> list[Section]:
    maps, steps, sizes = seen.calls[name][0].inputs[:3]
    shapes = module.shapes.split(module.per_cell)
    grids = [(m.shape[2], m.shape[3]) for m in maps]
    centres, sides = default_boxes(shapes, grids, steps)
    anchors = boxes_in_images(centres, sides, sizes)[0]
    logits = [
        rows_of(seen.output(f"{name}.logits.{i}").detach(), module.num_classes + 1)[0]
        for i in range(len(maps))
    ]
    scores = [each.softmax(-1)[:, : module.num_classes] for each in logits]
    pictures = [
        _of_a_cell(module, anchors, grids, seen),
        *(
            Picture(
                f"Scores of {height}×{width} cells",
                f"The best class of {count} default boxes in each cell; {float(s.max()):.2f} at"
                " most.",
                map_over(seen, s.amax(1).reshape(height, width, count).amax(-1)),
            )
            for (height, width), count, s in zip(grids, module.per_cell, scores, strict=True)
        ),
        _matched(module, anchors, centres, sizes, seen, objects),
        _unthinned(module, anchors, torch.cat(scores), seen, name),
        detections(seen, len(anchors), "boxes"),
    ]
    text = f"{len(anchors):,} default boxes on {len(maps)} maps, each classified and moved."
    return [Section("Default boxes and their scores", text, pictures)]


def _of_a_cell(
    module: SSDHead, anchors: Tensor, grids: list[tuple[int, int]], seen: Seen
) -> Picture:
    chosen, labels, first = [], [], 0
    for place, ((rows, columns), count) in enumerate(zip(grids, module.per_cell, strict=True)):
        cell = first + (rows // 2 * columns + columns // 2) * count
        chosen.append(anchors[cell : cell + count])
        labels += [place] * count
        first += rows * columns * count
    text = "The shapes in the middle cell of each map, a colour a map."
    return Picture("Default boxes of a cell", text, drawn(seen, torch.cat(chosen), labels))


def _matched(
    module: SSDHead,
    anchors: Tensor,
    centres: Tensor,
    sizes: Tensor,
    seen: Seen,
    objects: Objects,
) -> Picture:
    matched = module.match(anchors[None], centres, sizes, [objects.targets])[0]
    positive = positives(anchors, matched, objects)
    rows = [["default box", "pixels", "object", "IoU", "why it is positive"]]
    for box, which, iou in positive[:ROWS]:
        why = f"IoU from {module.pos_iou:g} on"
        if iou < module.pos_iou:
            why = f"below {module.pos_iou:g}, but the best that was left for the object"
        said = word(seen, objects, which)
        rows.append([f"{box:,}", corners(anchors[box]), said, f"{iou:.2f}", why])
    text = f"Matched to {objects.noun} (white): {len(positive):,} of {len(anchors):,} are positive."
    picture = matched_boxes(seen, anchors, positive, objects)
    return Picture("Default boxes that were positive", text, picture, rows if len(rows) > 1 else ())


def _unthinned(module: SSDHead, anchors: Tensor, scores: Tensor, seen: Seen, name: str) -> Picture:
    levels = range(len(module.per_cell))
    deltas = torch.cat([rows_of(seen.output(f"{name}.deltas.{i}").detach(), 4)[0] for i in levels])
    best, label = scores.max(1)
    order = best.argsort(descending=True)[:SHOWN]
    boxes = module.box_coder.decode(deltas[order], anchors[order])
    text = f"The {len(order)} best boxes of all maps, moved by their deltas, in class colours."
    return Picture("Boxes before NMS", text, drawn(seen, boxes, label[order].tolist(), 1))


@stages_of.register
def _(module: Localizer, name: str, seen: Seen, objects: Objects) -> list[Section]:
    maps = seen.output("boxes").detach().float()
    images = seen.batch.images
    boxes, weights = votes(maps, images.shape[2:], content_mask(images, seen.sizes)[:, None])
    rows, columns = maps.shape[2:]
    best = weights[0].argsort(descending=True)[:ROWS]
    table = [["cell (row, column)", "weight", "its box"]]
    for place in best.tolist():
        row, column = divmod(place, columns)
        said = f"{float(weights[0, place]):.2f}"
        table.append([f"{row}, {column}", said, corners(boxes[0, :, place])])
    picture = drawn(seen, boxes[0, :, best].T, None, 1)
    assert seen.prediction.box is not None
    picture = outlined(picture, seen, seen.prediction.box.detach()[None])
    text = f"{rows}×{columns} cells; each says a box and its weight in their mean."
    pictures = [
        Picture(
            f"Weights of {rows}×{columns} cells",
            f"Their sum is 1; {float(weights.max()):.2f} at most.",
            map_over(seen, weights[0].reshape(rows, columns)),
        ),
        Picture(
            "Boxes of cells",
            f"Thin: those of the {len(best)} cells that count most; white: the mean of all.",
            picture,
            table,
        ),
    ]
    return [Section("Cells and their boxes", text, pictures)]
