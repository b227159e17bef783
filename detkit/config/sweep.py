"""The jobs of a sweep (`-m`) beside each other: a table on the terminal, `sweep.csv`, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detkit.atomic import write_text
from detkit.config.settings import TrainSettings

FILE = "sweep.csv"
BESIDE = ("best/score_thresh", "best/precision", "best/recall", "best/f1")


@dataclass
class Sweep:
    """What the jobs came to, of a launcher that runs them in this process.

    Attributes:
        rows: of each job its number, its figure and that one's value, and a few more.
        given: the settings of each.
        folder: of the sweep.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    given: list[dict[str, str]] = field(default_factory=list)
    folder: Path = Path()
    _told: bool = False

    def lean(self, settings: TrainSettings, given: Sequence[str]) -> TrainSettings:
        """Without `last/` of the jobs, which nobody goes on with, unless it was asked for."""
        if any(one.lstrip("+").startswith("training.keep_last=") for one in given):
            return settings
        if not self._told:
            print(
                "note: the jobs of a sweep keep best/ alone (training.keep_last=true keeps last/)"
            )
            self._told = True
        return replace(settings, training=replace(settings.training, keep_last=False))

    def add(
        self, folder: Path, figure: str, result: Mapping[str, Any], given: Sequence[str]
    ) -> None:
        """One more job; the table and the picture are written anew.

        Args:
            folder: of the sweep.
            figure: the key of the one that counts.
            result: what the job returned.
            given: its settings, as `key=value`.
        """
        more = {key: result[key] for key in BESIDE if key in result}
        row = {"job": len(self.rows), "figure": figure, "value": result[figure], **more}
        self.rows.append(row)
        pairs = (one.partition("=") for one in given)
        self.given.append({key: value for key, _, value in pairs})
        self.folder = folder
        if len(self.rows) < 2:
            return
        own = self.own()
        table = [{**row, **given} for row, given in zip(self.rows, own, strict=True)]
        columns = list(dict.fromkeys(key for row in table for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(table)
        write_text(folder / FILE, text.getvalue())

    def own(self) -> list[dict[str, str]]:
        """The settings of each job that not all have alike."""
        same = set.intersection(*(set(given.items()) for given in self.given))
        return [{k: v for k, v in given.items() if (k, v) not in same} for given in self.given]

    def tell(self) -> None:
        """The table, and where it lies."""
        if len(self.rows) < 2:
            return
        print("\njob  figure           settings")
        names, values = [], []
        for row, given in zip(self.rows, self.own(), strict=True):
            value = row["value"]
            shown = "–" if value is None else f"{value:.3f}"
            names.append(" ".join(f"{key}={text}" for key, text in given.items()))
            values.append(value)
            print(f"{row['job']:>3}  {row['figure']:<9} {shown:<6} {names[-1]}")
        from detkit.plots import canvas, sweep

        file = self.folder / "sweep.png"
        with canvas.attempted(file, print):
            figures = dict.fromkeys(row["figure"] for row in self.rows)
            sweep.draw(names, values, ", ".join(figures), file)
        print(f"See {self.folder / FILE} and {file.name} beside it.")
