"""A measured row: one measurement as a JSON file, of which the README's tables are made."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pydantic

from detkit import foreign
from detkit.atomic import write_text
from detkit.errors import DetkitError

Figure = dict[str, list[float | None] | str]


@dataclass(frozen=True)
class Row:
    """What one command measured, with S seeds. What is not known is None.

    Attributes:
        system: the model's name; None where there is no model in it.
        what: the data and the split, or what was compared.
        figure: under each figure's key its S values, or a text; or a text alone.
        seeds: None where nothing is drawn; then the lists have one value.
        minutes: S times, of the training with its final measurement.
        cpu: what it ran on.
        commit: of the code; `.changed` behind it where the code differed.
        command: without the seed, folders and files without their places.
        results: S times the SHA-256 of `results.json`; None where these are gone.
        paper: what the paper reports.
        cause: why the figure falls short of the paper or of its goal.
        note: what else has to be known to read the figure.
    """

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False
    )

    system: str | None
    what: str
    figure: Figure | str
    seeds: list[int] | None
    minutes: list[float | None] | None
    cpu: str | None
    commit: str | None
    command: str
    results: list[str | None] | None
    paper: str | None
    cause: str | None
    note: str | None = None

    @property
    def runs(self) -> int:
        """How many values each list has."""
        return 1 if self.seeds is None else len(self.seeds)


_ROW = pydantic.TypeAdapter(Row)
_REMEDY = "correct it, or delete it and measure anew; Row in detkit/commands/measured.py says how."


def read(file: Path) -> Row:
    """
    Raises:
        DetkitError: the file is no row, or its lists are not as long as its seeds'.
    """
    try:
        row = _ROW.validate_json(foreign.read_bytes(file))
    except OSError as error:
        raise DetkitError(
            f"It cannot be read ({error.strerror}).", file=file, remedy="name a row's file."
        ) from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise DetkitError(
            f"It is no measured row: {first['msg']}.",
            file=file,
            record=".".join(map(str, first["loc"])) or None,
            remedy=_REMEDY,
        ) from error
    lists: dict[str, Any] = {"minutes": row.minutes, "results": row.results, "seeds": row.seeds}
    lists |= row.figure if isinstance(row.figure, dict) else {}
    for key, values in lists.items():
        if isinstance(values, list) and len(values) != max(1, row.runs):
            raise DetkitError(
                f"It has {len(values)} values, where the seeds are {row.seeds}.",
                file=file,
                record=key,
                remedy=_REMEDY,
            )
    return row


def write(file: Path, row: Row) -> None:
    """Writes a line a field, so that a change shows as the line of its field."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    if row.note is None:
        del values["note"]
    lines = (f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in values.items())
    write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")
