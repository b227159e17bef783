"""A page of each model, made once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "contracts")]

from explained import Made, counted, explained_of, predicted, watched

from detkit.explain import activation, page, sections, stages
from detkit.explain.page import Section
from detkit.explain.sections import Wanted, of_model


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A function from a model's name to its page, which is made once."""
    known: dict[str, Made] = {}

    def of(name: str) -> Made:
        if name not in known:
            explained, source = explained_of(name)
            found: list[Section] = []
            box = [[10.0, 12, 44, 40]]
            wanted = Wanted(boxes=box, score_thresh=0.0)
            calls = []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sections, "watch", watched(calls, sections.watch))
                patch.setattr(stages, "SIDE", 128)  # for the sake of time
                patch.setattr(activation, "SIDE", 128)
                found.extend(of_model(explained, source, wanted))
            plain = counted(explained.model, lambda: predicted(explained, source))
            folder = tmp_path_factory.mktemp("pages") / name
            folder.mkdir()
            page.write(folder, name, ["a line < another & more"], found)
            known[name] = Made(explained, found, folder, *calls, plain)
        return known[name]

    return of
