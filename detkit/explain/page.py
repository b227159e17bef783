"""Pictures with a title and a sentence, as PNG files and as one page that holds them all."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import cv2
import numpy as np

from detkit import foreign
from detkit.atomic import write_bytes, write_text
from detkit.errors import DetkitError

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
WIDE = 2.2  # times its height: a picture that gets a row of the page to itself
COLUMNS = 4  # of a table that does not
SIGN = b'<meta name="generator" content="detkit explain">'


@dataclass(frozen=True)
class Picture:
    """What is shown.

    Attributes:
        title: a few words, which also name its file.
        text: a sentence or two.
        image: (H, W, 3) uint8 RGB.
        rows: a table below it, its first row the heads.
    """

    title: str
    text: str
    image: np.ndarray
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Section:
    """Pictures that belong together."""

    title: str
    text: str
    pictures: list[Picture] = field(default_factory=list)


def write(folder: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> Path:
    """Writes `01_TITLE.png` …, and `index.html`, which needs none of them.

    Args:
        lead: lines below the title.
    Returns:
        The page's path.
    Raises:
        DetkitError: a folder with something else in it.
    """
    check_free(folder)
    number, contents, blocks = 0, [], []
    for place, section in enumerate(sections, 1):
        figures = []
        for picture in section.pictures:
            number += 1
            name = f"{number:02d}_{slug(picture.title)}.png"
            data = encoded(picture.image)
            write_bytes(folder / name, data)
            figures.append(_figure(picture, name, data))
        filled = {
            "number": place,
            "title": html.escape(section.title),
            "text": html.escape(section.text),
            "figures": "".join(figures),
        }
        blocks.append(template("section").substitute(filled))
        contents.append(f'<a href="#part{place}">{html.escape(section.title)}</a>')
    page = template("page").substitute(
        title=html.escape(title),
        lead="".join(f"<p>{html.escape(line)}</p>" for line in lead),
        contents=" ".join(contents),
        sections="".join(blocks),
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def check_free(folder: Path) -> None:
    """
    Raises:
        DetkitError: there are files in the folder, and no page of ours.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    page = folder / PAGE
    if not foreign.is_file(page) or SIGN not in foreign.read_bytes(page)[:2000]:
        raise DetkitError(
            "There are other files in this folder." if folder.is_dir() else "This is a file.",
            file=folder,
            remedy="choose an empty folder, or a new one, with output=DIR.",
        )


def encoded(picture: np.ndarray) -> bytes:
    """A PNG's bytes."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert done
    return data.tobytes()


def slug(title: str) -> str:
    """A title as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:50] or "picture"


def template(name: str) -> Template:
    return Template(foreign.read_text(TEMPLATES / f"{name}.html"))


def _figure(picture: Picture, name: str, data: bytes) -> str:
    height, width = picture.image.shape[:2]
    return template("figure").substitute(
        name=name,
        wide=' class="wide"' if _is_wide(picture) else "",
        width=width,
        height=height,
        data=base64.b64encode(data).decode(),
        title=html.escape(picture.title),
        text=html.escape(picture.text),
        table=_table(picture.rows),
    )


def _is_wide(picture: Picture) -> bool:
    """Whether it is hard to read beside another one."""
    height, width = picture.image.shape[:2]
    return width > WIDE * height or any(len(row) > COLUMNS for row in picture.rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [
        "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="table"><table>{body}</table></div>'
