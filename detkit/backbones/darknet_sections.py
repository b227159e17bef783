"""The text of a Darknet network description (.cfg): sections of options, each with its line.

    [convolutional]        a section is a layer; the first one, [net], is about the whole
    filters = 32           an option; spaces mean nothing
    # a comment            also behind ;

What the text says is data: no option is a command, and no file that it names is opened.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from detkit import foreign
from detkit.errors import DetkitError

NET = ("net", "network")
LARGEST = 2**20  # of the integers of a layer; YOLO9000's filters are 28,269


class Section(NamedTuple):
    """One section, as it stands.

    Attributes:
        name: without its brackets, in small letters.
        options: key → value, without any space. Of a key given twice the first counts, as in
            Darknet.
        line: of its name, from 1.
        layer: its number, from 0; −1 for [net].
        file: where the text came from, for messages.
    """

    name: str
    options: Mapping[str, str]
    line: int
    layer: int
    file: str | None

    def error(self, problem: str, remedy: str) -> DetkitError:
        """The error of this section, with its file, line and layer."""
        layer = f", layer {self.layer}" if self.layer >= 0 else ""
        record = f"line {self.line}{layer} [{self.name}]"
        return DetkitError(problem, file=self.file, record=record, remedy=remedy)

    def integer(self, key: str, default: int, low: int = 0, high: int = LARGEST) -> int:
        """An option that is a whole number from `low` to `high`."""
        text = self.options.get(key, str(default))
        try:
            value = int(text)
        except ValueError:
            raise self._odd(key, text, "a whole number") from None
        if not low <= value <= high:
            raise self._odd(key, text, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: float) -> float:
        """An option that is a finite number."""
        return self._number(key, self.options.get(key, str(default)))

    def numbers(self, key: str) -> tuple[float, ...]:
        """An option that is a list of finite numbers; empty where it is not there."""
        values = self.options.get(key, "").strip(",")
        return tuple(self._number(key, one) for one in values.split(",")) if values else ()

    def integers(self, key: str) -> tuple[int, ...]:
        """An option that is a list of whole numbers; empty where it is not there."""
        values = self.numbers(key)
        if any(value != int(value) for value in values):
            raise self._odd(key, self.options[key], "a list of whole numbers")
        return tuple(int(value) for value in values)

    def choice(self, key: str, default: str, known: Collection[str]) -> str:
        """An option that is one of some words."""
        value = self.options.get(key, default)
        if value not in known:
            raise self._odd(key, value, f"one of {', '.join(sorted(known))}")
        return value

    def check(self, known: Collection[str], neutral: Mapping[str, str]) -> None:
        """Refuse an option that might change what the layer computes in a way unknown here.

        Args:
            known: the options that are read, or that only training heeds.
            neutral: options with the one value that changes nothing.
        """
        for key, value in self.options.items():
            if key in neutral:
                self.choice(key, value, (neutral[key],))
            elif key not in known:
                raise self.error(
                    f"The option {key}={value} is not known here.",
                    f"known are {', '.join(sorted({*known, *neutral}))}; delete the line "
                    "if it does not change what the layer computes.",
                )

    def _number(self, key: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._odd(key, text, "a number")
        return value

    def _odd(self, key: str, value: str, wanted: str) -> DetkitError:
        return self.error(f"{key} is {value!r}, not {wanted}.", f"correct {key}.")


def sections(text: str, file: str | None = None) -> list[Section]:
    """What the text of a .cfg consists of: [net], then one section a layer.

    Raises:
        DetkitError: a line that is no section, option or comment; no section at all, or another
            one than [net] at the beginning.
    """
    found: list[Section] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = "".join(raw.partition("#")[0].split())
        if not line or line.startswith(";"):
            continue
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].lower()
            found.append(Section(name, {}, number, len(found) - 1, file))
            continue
        key, equals, value = line.partition("=")
        if not (key and equals and found):
            raise DetkitError(
                f"{raw.strip()[:60]!r} is no option of a section.",
                file=file,
                record=f"line {number}",
                remedy="write [SECTION], then key=value lines, comments behind #.",
            )
        found[-1].options.setdefault(key, value)  # type: ignore[attr-defined]
    if not found or found[0].name not in NET:
        raise DetkitError(
            f"It begins with [{found[0].name}]." if found else "It has no section.",
            file=file,
            record=f"line {found[0].line}" if found else None,
            remedy="name a Darknet network description; its first section is [net].",
        )
    return found


def cfg_text(path: str | Path) -> str:
    """The text of a .cfg file; comments may be in any encoding.

    Raises:
        DetkitError: the file cannot be read.
    """
    try:
        return foreign.glance(path)
    except OSError as error:
        raise DetkitError(
            f"It cannot be read ({error.strerror or error}).",
            file=path,
            remedy="name a Darknet network description (.cfg).",
        ) from error
