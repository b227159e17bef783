"""Why a result is next to nothing: the usual mistakes, each tried out and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from detkit.evaluation.results import Results
from detkit.evaluation.voc import best_overlaps

if TYPE_CHECKING:
    from detkit.data.records import Records

NOTHING = 0.01  # an AP50 below this asks for a reason
LITTLE = 0.1  # and one below this for a look: mistakes can leave a few boxes where they belong
MOST = 500  # detections looked at: those that have the best chance
PAIRS, FEWEST = 20_000, 20  # … with so many objects beside them: each pair is read in 1,374 ways
EVIDENT, UNIT = 3, 1.01  # hits that are no chance; where fractions of a side end
FITS = 0.2  # share of them on objects that shows that boxes are read as they were meant
STEADY = 0.6  # share of a renumbering that hits its class; a detector that guesses hits less
SCALES = np.geomspace(1 / 16, 16, 113)  # steps of 5 %: an overlap of half survives one
NOT_LEARNED = (
    "The detector has not learned: it finds nothing where the objects are, or is surest of what is"
    " wrong. Train for longer, and see whether the losses still fall (metrics.jsonl)."
)
Reading = tuple[str, Callable[[np.ndarray], np.ndarray]]


def diagnose(
    records: Records, results: Results, ap50: float | None, foreign: bool = True
) -> str | None:
    """The reason for an AP50 below 0.01, or None if it is above.

    Up to 0.1 a mistake is named too, but only where one is found.

    Args:
        ap50: `coco/AP50` of these results, None when no object counts.
        foreign: whether a file brought them; detkit's own boxes and classes need no doubt.
    """
    if ap50 is not None and ap50 >= LITTLE:
        return None
    start = f"AP50 is {ap50 or 0:.3f}. "
    strangers = results.unknown_images.total()
    nameless = results.unknown_classes.total()
    if not np.count_nonzero(~records.crowd):
        return start + (
            f"There is no ground truth: {len(records)} images without a countable object. "
            "Check the split and the data set's folder."
        )
    if not len(results) and not strangers and not nameless:
        return start + (
            "There are no detections: no score was above the threshold. "
            "Lower the score threshold, or train for longer."
        )
    if strangers > len(results):
        return start + _images_do_not_meet(records, results)
    if nameless > len(results):
        return start + (
            f"{_share(nameless, nameless + len(results), 'detections')} have a class that the data "
            f"lack (theirs: {_some(results.unknown_classes)}; ours: {_classes(records)})."
        )
    if not foreign:
        return start + NOT_LEARNED if (ap50 or 0) < NOTHING else None
    mistake, otherwise = _boxes_or_classes(records, results)
    if mistake or (ap50 or 0) < NOTHING:
        return start + (mistake or otherwise)
    return None


def _images_do_not_meet(records: Records, results: Results) -> str:
    unknown = results.unknown_images
    met = len(np.unique(results.images))
    return (
        f"The image ids do not meet: {met} of {met + len(unknown)} image ids of the detections "
        f"occur in the ground truth (theirs: {_some(unknown)}; ours: {_some(records.image_ids)})."
    )


def _boxes_or_classes(records: Records, results: Results) -> tuple[str | None, str]:
    """What is wrong with boxes or class ids, if anything is, and what to say if nothing is."""
    images = np.repeat(np.arange(len(records)), np.diff(records.offsets))
    best = _promising(results, np.bincount(images, minlength=len(records)))
    objects = records.boxes.astype(np.float64)

    def shares(boxes: np.ndarray) -> tuple[float, np.ndarray]:
        overlaps, nearest = best_overlaps(images, objects, best.images, boxes)
        return float(np.mean(overlaps > 0.5)), np.where(overlaps > 0.5, nearest, -1)

    as_it_is, nearest = shares(best.boxes)
    few = len(best) < FEWEST  # then only what is evident is named
    where = f"{_percent(as_it_is)} of the best {len(best)} detections lie on an object"
    if as_it_is >= FITS and (not few or as_it_is * len(best) >= EVIDENT):
        mistake = _classes_do_not_meet(records, best, nearest, where)
    else:
        mistake = None
    if mistake:
        return mistake, ""
    sizes = records.sizes[best.images].astype(np.float64)
    readings = _plain(sizes) if few else _readings(sizes)
    tried = [(shares(reading(best.boxes))[0], text) for text, reading in readings]
    share, text = max(tried, key=lambda pair: pair[0])
    enough = share >= STEADY and share * len(best) >= EVIDENT
    if share >= max(FITS, 3 * as_it_is) and (enough or not few):
        return (
            f"The boxes are in another format or scale: {where}, {_percent(share)} when they are "
            f"read as {text}."
        ), ""
    if few and len(best) and (np.abs(best.boxes) <= UNIT).all():
        return (
            f"The boxes are in another format or scale: none of the {len(best)} reaches beyond 1,"
            " as fractions of the image do; here they are pixels."
        ), ""
    if few:
        return None, f"There are {len(best)} detections, too few to tell why."
    return None, (
        f"Images and classes meet; {where}, and not many more in another box format or scale: the "
        "detector has not learned, its scores put right behind wrong detections, or the image ids "
        "name other pictures than in the data."
    )


def _promising(results: Results, objects: np.ndarray) -> Results:
    """The best detections of each image, as many as it has objects."""
    order = np.lexsort((-results.scores, results.images))
    first = np.searchsorted(results.images[order], results.images[order], "left")
    chosen = order[np.arange(len(order)) - first < objects[results.images[order]]]
    if not len(chosen):  # only images without objects have detections
        chosen = order
    chosen = chosen[np.argsort(-results.scores[chosen], kind="stable")][:MOST]
    pairs = np.cumsum(objects[results.images[chosen]])
    return results.select(chosen[: max(FEWEST, np.searchsorted(pairs, PAIRS, "right"))])


def _classes_do_not_meet(
    records: Records, best: Results, nearest: np.ndarray, where: str
) -> str | None:
    on = nearest >= 0
    pairs = Counter(
        zip(best.labels[on].tolist(), records.labels[nearest[on]].tolist(), strict=True)
    )
    wrong = sum(number for (theirs, ours), number in pairs.items() if theirs != ours)
    steady: Counter[int] = Counter()  # of each of their classes those on its most frequent one
    for (theirs, _), number in pairs.items():
        steady[theirs] = max(steady[theirs], number)
    if wrong * 2 < on.sum() or steady.total() < STEADY * on.sum():
        return None
    examples = [
        f"{_class(records, theirs)} lies on {_class(records, ours)}"
        for (theirs, ours), _ in pairs.most_common(3)
        if theirs != ours
    ]
    return (
        f"The class ids do not meet: {where}, but {wrong} of these {int(on.sum())} name another "
        f"class ({'; '.join(examples)}; our classes: {_classes(records)})."
    )


def _plain(sizes: np.ndarray) -> Iterable[Reading]:
    """Of `_readings` those without a scale to be searched for."""
    yield from _formats()[1:]
    whole = sizes[:, [1, 0, 1, 0]]
    for text, reading in _formats():
        described = "" if text == "they are" else f", {text}"
        for side, meaning in ((1, "fractions of the image"), (100, "percent of the image")):
            yield f"{meaning}{described}", _scaled(reading, whole / side)


def _formats() -> list[Reading]:
    return [
        ("they are", lambda b: b),
        ("x1, y1, x2, y2 (not x, y, width, height)", _sides),
        ("centre x, centre y, width, height", _centred),
        ("x, y, width, height (not x1, y1, x2, y2)", _cornered),
        ("y before x", lambda b: b[:, [1, 0, 3, 2]]),
        ("y1, x1, y2, x2 (not x, y, width, height)", lambda b: _sides(b)[:, [1, 0, 3, 2]]),
    ]


def _readings(sizes: np.ndarray) -> Iterable[Reading]:
    """Other meanings that four numbers may have had, as (what, boxes → xyxy in pixels).

    Args:
        sizes: (D, 2) height and width of each detection's image, 0 where they are not known.
    """
    yield from _plain(sizes)
    whole = sizes[:, [1, 0, 1, 0]]
    for text, reading in _formats():
        described = "" if text == "they are" else f", {text}"
        for scale in SCALES:
            yield f"about {_times(scale)}{described}", _scaled(reading, scale)
        for side in 512 * SCALES:
            square = f"pixels of an image resized to a square of about {side:.0f}{described}"
            yield square, _scaled(reading, whole / side)


def _scaled(
    reading: Callable[[np.ndarray], np.ndarray], by: np.ndarray | float
) -> Callable[[np.ndarray], np.ndarray]:
    return lambda boxes: reading(boxes) * by


def _times(scale: float) -> str:
    return f"{scale:.2g} times too small" if scale > 1 else f"{1 / scale:.2g} times too large"


def _sides(boxes: np.ndarray) -> np.ndarray:
    """xyxy whose right and lower edge had been taken for width and height."""
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def _cornered(boxes: np.ndarray) -> np.ndarray:
    """xyxy of boxes whose width and height had been taken for the right and lower edge."""
    return np.column_stack([boxes[:, :2], boxes[:, 2:] + boxes[:, :2]])


def _centred(boxes: np.ndarray) -> np.ndarray:
    """xyxy of boxes whose centre had been taken for the upper left corner."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return boxes - np.column_stack([half, half])


def _some(names: Iterable[str]) -> str:
    first = list(islice(names, 4))
    return ", ".join(first[:3]) + (" …" if len(first) > 3 else "")


def _classes(records: Records) -> str:
    return _some(_class(records, k) for k in range(len(records.names)))


def _class(records: Records, label: int) -> str:
    return f"{records.category_ids[label]} {records.names[label]}"


def _share(part: int, whole: int, what: str) -> str:
    return f"{part} of {whole} {what}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
