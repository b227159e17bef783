"""The command line before Hydra sees it: file names are quoted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from detkit.errors import DetkitError
from detkit.folders import in_home

# Settings whose value is a file's or a list's name, by the last part of their key.
PATHS = {
    *("source", "root", "checkpoint", "resume", "weights", "predictions", "output", "run_dir"),
    *("report", "annotations", "split", "train_split", "val_split", "row", "folder", "path"),
    *("proposals_file", "tree", "tree_map", "labels_root", "cfg", "names"),
}
_ARGUMENT = re.compile(r"\+{0,2}(?P<key>[\w./@]+)=(?P<value>.*)", re.DOTALL)


def quoted(argument: str) -> str:
    """`source=it's (1).jpg` as Hydra has to be told it; arguments without a path as they are.

    Whatever follows `=` is the file's name, but for two: `null` is no file (one of that name is
    `./null`), and a leading `~/` is the home folder.
    """
    match = _ARGUMENT.fullmatch(argument)
    if not match or not _is_path(match["key"]) or match["value"] == "null":
        return argument
    if not match["value"]:
        raise DetkitError(
            f"Nothing follows {match['key']}=",
            remedy="give a path (is a variable of your shell empty?), or null for none.",
        )
    return argument[: match.start("value")] + quote(_expanded(match["value"]))


def searched(argv: Sequence[str]) -> list[str]:
    """The arguments with `--config-dir DIR` as the setting that it stands for."""
    rest, left = [], list(argv)
    while left:
        argument = left.pop(0)
        flag, _, folder = argument.partition("=")
        if flag not in ("--config-dir", "-cd"):
            rest.append(argument)
            continue
        path = in_home(folder or (left.pop(0) if left else "")).resolve()
        if not path.is_dir():
            raise DetkitError("There is no such folder.", file=path, remedy=f"correct {flag}.")
        rest.append(f"hydra.searchpath=[{quote(f'file://{path}')}]")
    return rest


def quote(text: str) -> str:
    """A text in the quotes of Hydra's grammar, so that it arrives as it is."""
    text = re.sub(r"(\\+)(?='|\Z)", lambda m: m[1] * 2, literal(text))  # halved by the grammar
    return "'" + text.replace("'", r"\'") + "'"


def literal(text: str) -> str:
    """A text in which OmegaConf sees neither an interpolation nor its sign for a missing value."""
    if text == "???":
        return "./???"
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", text)


def given(argv: Sequence[str]) -> dict[str, str]:
    """Key → value, as text, of the arguments of the form `key=value`."""
    matches = [match for argument in argv if (match := _ARGUMENT.fullmatch(argument))]
    return {m["key"]: _expanded(m["value"]) if _is_path(m["key"]) else m["value"] for m in matches}


def _is_path(key: str) -> bool:
    return re.split(r"[./@]", key)[-1] in PATHS


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path
