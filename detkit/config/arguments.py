"""The command line before Hydra sees it: what its grammar cannot hold is put in quotes.

File names may have any letters, and so may the names of classes; Hydra's words are of ASCII alone.
"""

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
# Settings that may be a table by class name, such as {dog: 0.4}: a text until `table` reads it.
TABLES = {"score_thresh"}
_ENTRY = re.compile(
    r"""\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>.*?))\s*:\s*(?P<value>[^,:]*?)\s*(?:,|$)""",
    re.DOTALL,
)
_WORD = re.compile(r"""'(?:\\.|[^'])*'|"(?:\\.|[^"])*"|[^\[\]{},:()'"]+""")
_ARGUMENT = re.compile(r"\+{0,2}(?P<key>[\w./@]+)=(?P<value>.*)", re.DOTALL)


def quoted(argument: str) -> str:
    """`source=it's (1).jpg` as Hydra has to be told it; most arguments without a path as they are.

    Whatever follows `=` is the file's name, but for two: `null` is no file (one of that name is
    `./null`), and a leading `~/` is the home folder.
    """
    match = _ARGUMENT.fullmatch(argument)
    if not match or match["value"] == "null":
        return argument
    if match["key"] in TABLES and re.fullmatch(r"\{[^{}]*\}", match["value"]):
        return argument[: match.start("value")] + quote(match["value"])
    if not _is_path(match["key"]):
        return argument[: match.start("value")] + _WORD.sub(_in_ascii, match["value"])
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


def table(key: str, text: str) -> dict[str, float | str]:
    """What `{dog: 0.4, traffic light: 0.3}` says: names of any letters, in quotes or without.

    Args:
        key: of the setting, for messages.
    Returns:
        The values as numbers; what is none stays a text, which the check of its type refuses.
    Raises:
        DetkitError: it is no such table.
    """
    found: dict[str, float | str] = {}
    inside, place = text.strip()[1:-1].strip(), 0
    while place < len(inside):
        entry = _ENTRY.match(inside, place)
        if entry is None:
            raise DetkitError(
                f"{key} is {text[:80]!r}.", remedy=f"write it as '{key}={{dog: 0.4, cat: 0.3}}'."
            )
        name = next(n for n in entry.group("single", "double", "bare") if n is not None)
        try:
            found[name] = float(entry["value"])
        except ValueError:
            found[name] = entry["value"]
        place = entry.end()
    return found


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


def _in_ascii(word: re.Match[str]) -> str:
    """A word of other letters in quotes."""
    text = word[0]
    return text if text.isascii() or text[0] in "'\"" else quote(text.strip())


def _is_path(key: str) -> bool:
    return re.split(r"[./@]", key)[-1] in PATHS


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path
