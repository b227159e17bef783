"""What a run says: metrics.jsonl and log.txt always, TensorBoard if installed, a progress bar.

Only the main process has one that writes; the others' are silent.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

QUIET_SECONDS = 15.0  # between progress lines where there is no terminal


class Journal:
    """The records of one run folder.

    Args:
        folder: the run folder, or None: keeps nothing and says nothing.
        step: the step that the run continues from.
        steps: of the whole run.
        size: the size of metrics.jsonl at that step; what a lost end of the run wrote behind it is
            dropped.
    """

    def __init__(self, folder: Path | None, step: int = 0, steps: int = 0, size: int = 0) -> None:
        self.folder = folder
        self.loss: tuple[int, float] | None = None  # the last step logged, and its loss
        self.stage = ""  # which of several stages runs
        self._said = time.monotonic()
        self._bar: tqdm[Any] | None = None
        self._board: Any = None
        self._steps = steps
        if folder is None:
            return
        self._metrics = folder / "metrics.jsonl"
        with self._metrics.open("ab") as file:
            file.truncate(min(size, file.tell()))
        self._board = _board(folder / "tensorboard", step)
        if sys.stderr.isatty():
            self._bar = tqdm(total=steps, initial=step, dynamic_ncols=True, unit="step")

    def say(self, text: str) -> None:
        """A line for the user, and for log.txt."""
        if self.folder is None:
            return
        with (self.folder / "log.txt").open(
            "a", encoding="utf-8", errors="surrogateescape"
        ) as file:
            file.write(text + "\n")
        with suppress(OSError):  # a terminal or a pipe that is closed ends no run
            tqdm.write(text) if self._bar is not None else print(text, flush=True)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl, and TensorBoard's curves of its numbers."""
        if self.folder is None:
            return
        with self._metrics.open("a", encoding="utf-8") as file:
            stage = {"stage": self.stage} if self.stage else {}
            file.write(json.dumps({"step": step, **stage, **values}) + "\n")
        if self._board is not None:
            for key, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(key, value, step)

    @property
    def size(self) -> int:
        """Bytes of metrics.jsonl so far."""
        return self._metrics.stat().st_size if self.folder is not None else 0

    def progress(self, step: int, left: float) -> None:
        """How far the run is, after each step: a bar on a terminal, elsewhere a line now and then.

        Args:
            left: seconds that the rest will take.
        """
        logged, loss = self.loss or (step, None)
        shown = "" if loss is None else f"loss {loss:.3f}"
        if loss is not None and logged < step:
            shown += f" (step {logged})"
        if self._bar is not None:
            with suppress(OSError):
                self._bar.set_description_str(self.stage, refresh=False)
                self._bar.set_postfix_str(shown, refresh=False)
                self._bar.update(step - self._bar.n)
            return
        now = time.monotonic()
        if self.folder is not None and now - self._said >= QUIET_SECONDS:
            self._said = now
            told = (self.stage, f"step {step}/{self._steps}", shown, f"about {duration(left)} left")
            self.say("  ".join(filter(None, told)))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._board is not None:
            self._board.close()


def duration(seconds: float) -> str:
    """`42 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
