"""`--help`: every setting with its value and a line about it, from the comments in `conf/`."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from detkit import foreign
from detkit.config import groups
from detkit.config.arguments import searched
from detkit.config.compose import CONF, home, prepare, resolved

COLUMN = 38  # where the comments begin
WIDTH = 110
HYDRAS = """\
Every value goes after its key, file names as they are: "source=it's (1).jpg". null is none.
--cfg job prints the configuration; -m key=1,2 runs once for each value (Hydra's multirun, with its
launcher and sweeper plugins); --hydra-help tells the rest of Hydra's flags."""


def page(verb: str, argv: Sequence[str]) -> str:
    """The help of a verb, as its settings are with these arguments."""
    name, overrides = prepare(verb, searched(argv))
    config = resolved(verb, name, overrides, hydras=True)
    chosen = config.hydra.runtime.choices
    values: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    values.pop("hydra")
    head = [
        line.lstrip("# ") for line in _lines(home(verb) / f"{verb}.yaml") if line.startswith("#")
    ]
    own = comments(home(verb) / f"{verb}.yaml")
    blocks = ["\n".join(head)]
    if (CONF / "experiment").is_dir() and "experiment" in chosen:
        folders = [Path(str(source.path)) for source in config.hydra.runtime.config_sources]
        files = {f.stem: f for d in folders for f in (d / "experiment").glob("*.yaml")}
        rows = [_row(name, _first_line(files[name])) for name in sorted(files)]
        title = f"experiment={chosen['experiment'] or 'null'}, or one of these:"
        blocks.append("\n".join([title, *rows]))
    plain = {}
    for key, value in values.items():
        if key not in groups.GROUPS or key not in chosen:
            plain[key] = value
            continue
        label = (value or {}).get("name")
        said = _about(key, label) if label else {}
        lines = [_choice(key, label, groups.choices(key), own.get(key))]
        lines += _rows(value or {}, f"{key}.", said)
        blocks.append("\n".join(lines))
    blocks += ["\n".join(_rows(plain, "", own)), HYDRAS]
    return "\n\n".join(blocks)


def comments(file: Path) -> dict[str, str]:
    """Dotted key → the comment on its line and those below, of a YAML file in block style."""
    found: dict[str, str] = {}
    path: list[str] = []
    column = 0
    for line in _lines(file):
        match = re.match(r"( *)(\w+):(?:.*?\s#\s*(.*))?", line)
        if match:
            path = [*path[: len(match[1]) // 2], match[2]]
            found[".".join(path)] = match[3] or ""
            column = line.index("#") if match[3] else len(line)
        elif path and (more := re.match(r" +# +(\S.*)", line)) and line.index("#") >= column:
            found[".".join(path)] += f" {more[1]}"
    return found


def _first_line(file: Path) -> str:
    """What an experiment's header begins with, behind the line that Hydra wants."""
    own = (line for line in _lines(file) if line.startswith("#") and "@package" not in line)
    return textwrap.shorten(next(own, "").lstrip("# "), WIDTH - COLUMN, placeholder=" …")


def _about(group: str, name: str) -> dict[str, str]:
    """A line about each setting of a choice: its file's comments, else its builder's docstring."""
    if group != "backbone":
        file = CONF / group / f"{name}.yaml"
        own = comments(file) if file.exists() else {}
        docstring = {} if name == "auto" else groups.descriptions(groups.registry(group).part(name))
        return docstring | {key: text for key, text in own.items() if text}
    from detkit.backbones.build import build, part

    return groups.descriptions(build) | groups.descriptions(part(name))


def _rows(values: Mapping[str, Any], prefix: str, said: Mapping[str, str]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in groups.GROUPS:
            yield from _rows(value, f"{prefix}{key}.", _below(said, key))
        elif key != "name" or not prefix:
            yield _row(f"{prefix}{key}={_text(value)}", said.get(key, ""))


def _below(said: Mapping[str, str], key: str) -> dict[str, str]:
    return {k.removeprefix(f"{key}."): v for k, v in said.items() if k.startswith(f"{key}.")}


def _row(setting: str, comment: str) -> str:
    left = f"  {setting}"
    wrapped = textwrap.wrap(comment, WIDTH - COLUMN) or [""]
    if len(left) >= COLUMN:
        wrapped = ["", *wrapped] if comment else [""]
    else:
        left = f"{left:<{COLUMN}}"
    return "\n".join([(left + wrapped[0]).rstrip(), *(" " * COLUMN + w for w in wrapped[1:])])


def _choice(group: str, chosen: str | None, known: Sequence[str], comment: str | None = "") -> str:
    text = f"one of {', '.join(known)}" + (f"; {comment}" if comment else "")
    if group == "backbone":
        bare = [name for name in known if f"{name}_fpn" in known]
        text = f"one of {', '.join(bare)}; each also with _fpn behind it"
    rows = textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)
    return "\n".join([f"{group}={chosen or 'null'}", *(f"  {row}" for row in rows)])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lines(file: Path) -> list[str]:
    return foreign.read_text(file).splitlines()
