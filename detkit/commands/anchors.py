"""`detkit anchors`: what anchors fit the boxes of a data set, and how well."""

from __future__ import annotations

import json
from typing import Any

from detkit.data.anchors import PAPER, cluster, sizes_of
from detkit.data.open import open_dataset, split_name
from detkit.data.square_presets import square
from detkit.errors import DetkitError


def anchors(settings: Any) -> dict[str, Any]:
    """Prints the anchors of each number asked for, as the setting that takes them.

    Args:
        settings: `AnchorsSettings`, see conf/anchors.yaml.
    Returns:
        By number of anchors `anchors` and `iou`, their mean best IoU with the boxes.
    Raises:
        DetkitError: no data, or too few boxes.
    """
    if settings.dataset is None:
        raise DetkitError("There are no boxes.", remedy="set dataset.root to the data set.")
    split = settings.split or split_name(settings.dataset, "train")
    records = open_dataset(settings.dataset, split)
    transform = square(
        train=False,
        short_side=settings.short_side,
        long_side=settings.long_side,
        letterbox=settings.letterbox,
    )
    sizes = sizes_of(records, transform)
    side = f"{settings.long_side} pixels" if settings.long_side else "the images' longer sides"
    print(f"{len(sizes):,} boxes of {split} ({records.source}), on squares of {side}", flush=True)
    found = {}
    for number in settings.numbers:
        shapes, iou = cluster(sizes, number, settings.seed)
        rounded = [[round(w, 1), round(h, 1)] for w, h in shapes.tolist()]
        paper = f" (the paper's on VOC: {PAPER[number]:.3f})" if number in PAPER else ""
        print(f"{number} anchors, mean best IoU {iou:.3f}{paper}:")
        print(f"  model.anchors={json.dumps(rounded, separators=(',', ':'))}")
        found[str(number)] = {"anchors": rounded, "iou": iou}
    return found
