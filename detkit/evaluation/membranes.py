"""The errors by which the ISBI 2012 challenge ranked segmentations of neurons in slices.

Cells are the connected regions (by edges) between membranes. Errors are of one slice each:

- Rand error (Arganda-Carreras et al. 2015, section 2.3.1): 1 − V, V the F-score of pairs of pixels
  that are, or were taken to be, of one cell; over the pixels of true cells alone. Such a pixel that
  was taken for membrane is a cell of its own.
- warping error (Jain et al. 2010): the share of pixels that differ from the truth after this was
  warped onto the prediction by pixels whose change changes no topology: what is left are cells
  split, merged, lost or invented. The best warping is not known; as in the paper one is found by
  flipping such pixels until there is none left, here in the order of rows, so that the figure is an
  upper bound. The challenge's software flips in the order of the grey values.
- pixel error: the share of wrong pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from detkit.errors import unknown
from detkit.evaluation.evaluate import Figures, PixelEvaluator
from detkit.evaluation.text import aligned, figure
from detkit.ops.compiled import compiled
from detkit.predictions import Segmentation
from detkit.structures import IGNORE

if TYPE_CHECKING:
    from detkit.data.records import Records

ERRORS = ("rand_error", "warping_error", "pixel_error")
THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))

NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # a ring


class MembraneEvaluator(PixelEvaluator):
    """The challenge's errors beside the figures of pixels, their means over the slices.

    Args:
        membrane: the class between the cells; all others are cells.
        thresh: what is surer than this to be of a cell is; the challenge's figures are those of the
            best threshold, which belongs to be chosen on other slices.
    Raises:
        DetkitError: there is no such class.
    """

    beside: ClassVar[tuple[str, ...]] = tuple(f"membrane/{error}" for error in ERRORS)

    def __init__(self, records: Records, membrane: str, thresh: float = 0.5) -> None:
        if membrane not in records.names:
            raise unknown("class", membrane, records.names)
        super().__init__(records)
        self.label, self.thresh = records.names.index(membrane), thresh
        self.levels = (*THRESHOLDS, thresh)
        self._sums = np.zeros((2, len(self.levels), len(ERRORS)))  # of errors, and how many

    def count(self, truth: np.ndarray, found: Segmentation) -> None:
        super().count(truth, found)
        sure = 1 - found.scores(self.label).cpu().numpy()
        for place, level in enumerate(self.levels):
            errors = slice_errors(truth, sure > level, self.label)
            known = np.array([error is not None for error in errors])
            self._sums[0, place, known] += [error for error in errors if error is not None]
            self._sums[1, place] += known

    def state(self) -> Any:
        counts, *others = super().state()
        return (*counts, self._sums), *others

    def merge(self, states: Sequence[Any]) -> None:
        super().merge([(counts[:2], *others) for counts, *others in states])
        self._sums = np.sum([counts[2] for counts, *_ in states], axis=0)

    def result(self) -> Figures:
        sums, numbers = self._sums
        means = np.where(numbers > 0, sums / np.maximum(numbers, 1), np.nan)
        figures: Figures = {"membrane/thresh": self.thresh}
        for place, name in enumerate(ERRORS):
            column = means[:, place]
            none = bool(np.isnan(column).any())
            best = 0 if none else int(column.argmin())
            figures |= {
                f"membrane/{name}": None if none else float(column[-1]),
                f"membrane/best/{name}": None if none else float(column[best]),
                f"membrane/best_thresh/{name}": None if none else self.levels[best],
            }
        return super().result() | figures

    def table(self, result: Figures) -> str:
        rows = [
            [
                name.replace("_", " "),
                *(_small(result[f"membrane/{kind}{name}"]) for kind in ("", "best/")),
                figure(result[f"membrane/best_thresh/{name}"]),
            ]
            for name in ERRORS
        ]
        head = ["", f"above {self.thresh:g}", "at best", "above"]
        lines = [
            super().table(result),
            "",
            *aligned([head, *rows]),
            "",
            "Cells are what is surer than a threshold to be no membrane; means over the slices. "
            "Choose the threshold on the training slices (split=train): membrane_thresh=.",
        ]
        return "\n".join(lines)


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}"


def slice_errors(
    truth: NDArray[np.uint8], predicted: NDArray[np.bool_], membrane: int
) -> tuple[float | None, float | None, float | None]:
    """Rand, warping and pixel error of a slice, None where it has no cell, or no pixel that counts.

    Args:
        truth: (H, W) uint8 classes; a pixel of 255 counts nowhere: for the warping error it is what
            was predicted, and of no true cell.
        predicted: (H, W) where cells are.
        membrane: the class that is none.
    """
    counted = truth != IGNORE
    cells = counted & (truth != membrane)
    if not counted.any():
        return None, None, None
    wrong = float((cells != predicted)[counted].mean())
    warped = warping_error(np.where(counted, cells, predicted), predicted)
    return rand_error(cells, predicted), warped, wrong


def rand_error(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float | None:
    """The Rand error of a slice, None where it has no cell.

    Args:
        truth, predicted: (H, W), where cells are.
    """
    true, found = (
        cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1][truth]
        for mask in (truth, predicted)
    )
    if not len(true):
        return None
    alone = int((found == 0).sum())
    pairs = true[found > 0].astype(np.int64) * (int(found.max()) + 1) + found[found > 0]
    _, counts = np.unique(pairs, return_counts=True)
    both = np.square(counts, dtype=np.float64).sum() + alone
    of_truth = np.square(np.bincount(true), dtype=np.float64).sum()
    of_found = np.square(np.bincount(found)[1:], dtype=np.float64).sum() + alone
    return float(1 - 2 * both / (of_truth + of_found))


def warping_error(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """The warping error of a slice; beyond its edge everything is membrane."""
    warped = np.pad(truth, 1).astype(np.uint8)
    goal = np.pad(predicted, 1).astype(np.uint8)
    _warp(warped, goal, SIMPLE)
    return float((warped != goal).sum() / truth.size)


def _simple_points() -> NDArray[np.bool_]:
    """(256,) whether a pixel's change keeps the topology, by its ring of neighbours.

    Bit i says that neighbour i is of a cell. Cells hold together by edges, membranes by edges and
    corners: the pixel is simple where exactly one run of each of them touches it (Kong and
    Rosenfeld 1989).
    """
    simple = np.zeros(256, bool)
    for code in range(256):
        cell = [bool(code >> i & 1) for i in range(8)]
        # along the ring two neighbours touch by an edge; a run of cells counts if it has an edge
        # neighbour (odd i) of the pixel itself
        runs = _runs(cell)
        cells = sum(any(i % 2 for i in run) for run in runs)
        # two edge neighbours of membrane beside a corner touch by that corner, whatever it is
        joined = [
            not c or (i % 2 == 0 and not cell[i - 1] and not cell[(i + 1) % 8])
            for i, c in enumerate(cell)
        ]
        membranes = sum(any(not cell[i] for i in run) for run in _runs(joined))
        simple[code] = cells == 1 and membranes == 1
    return simple


def _runs(ring: list[bool]) -> list[list[int]]:
    """The runs of true values around a ring."""
    if all(ring):
        return [list(range(len(ring)))]
    start = ring.index(False)
    runs: list[list[int]] = []
    before = False
    for step in range(len(ring)):
        place = (start + step) % len(ring)
        if ring[place]:
            runs.append([]) if not before else None
            runs[-1].append(place)
        before = ring[place]
    return runs


SIMPLE = _simple_points()


@compiled
def _warp(labels: NDArray, goal: NDArray, simple: NDArray) -> None:
    """Flips simple pixels of `labels` (H, W, with a border of zeros) where `goal` differs."""
    height, width = labels.shape
    queue = np.empty(height * width, np.int64)  # a ring: no pixel is in it twice
    waiting = np.zeros((height, width), np.bool_)
    first, count = 0, 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if labels[y, x] != goal[y, x]:
                queue[count] = y * width + x
                waiting[y, x] = True
                count += 1
    while count:
        y, x = queue[first] // width, queue[first] % width
        first, count = (first + 1) % len(queue), count - 1
        waiting[y, x] = False
        if labels[y, x] == goal[y, x]:
            continue
        code = np.int64(0)
        for i in range(8):
            dy, dx = NEIGHBOURS[i]
            code |= np.int64(labels[y + dy, x + dx]) << i
        if not simple[code]:
            continue
        labels[y, x] = goal[y, x]
        for i in range(8):
            dy, dx = NEIGHBOURS[i]
            v, u = y + dy, x + dx
            inside = 0 < v < height - 1 and 0 < u < width - 1
            if inside and labels[v, u] != goal[v, u] and not waiting[v, u]:
                queue[(first + count) % len(queue)] = v * width + u
                waiting[v, u] = True
                count += 1
