"""No file is opened for reading but by `detkit.foreign`, which refuses what would hang or swell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import detkit

HOUSE = Path(detkit.__file__).parent
READS = {"read_text", "read_bytes", "open", "safe_load", "full_load", "unsafe_load", "fromfile"}
# who may, and what: the room itself, the kernel's own files, what opens a path that was checked
ALLOWED = {
    "foreign.py": {"open", "read_bytes", "read_text"},
    "data/memory.py": {"read_text"},
    "commands/benchmark.py": {"read_text"},
    "commands/recording.py": {"read_text"},
    "data/images.py": {"open"},  # Pillow, on a file that is open
    "inference/video.py": {"open"},  # PyAV, also of streams
    "folders.py": {"open"},  # a folder, to hold it
    "terminal.py": {"open"},  # the null device
}
MODES = {"a", "ab", "w", "wb", "x", "rb+"}  # of files that are written


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            of = getattr(getattr(node.func, "value", None), "id", "")
            if name in READS and of != "foreign":
                yield name, node


def writes(call: ast.Call) -> bool:
    texts = [part.value for part in call.args if isinstance(part, ast.Constant)]
    return any(text in MODES for text in texts)


def reads_of(source: str) -> set[str]:
    return {name for name, call in calls(ast.parse(source)) if not writes(call)}


def test_nothing_else_opens_a_file_for_reading():
    found = {
        file.relative_to(HOUSE).as_posix(): names
        for file in sorted(HOUSE.rglob("*.py"))
        if (names := reads_of(file.read_text(encoding="utf-8")))
    }
    assert {file: names - ALLOWED.get(file, set()) for file, names in found.items()} == {
        file: set() for file in found
    }
    assert set(ALLOWED) <= set(found)  # the list of exceptions does not outlive them


def test_the_search_finds_what_it_is_for():
    assert reads_of("path.open('rb')") == {"open"}
    assert reads_of("open(path)") == {"open"}
    assert reads_of("yaml.safe_load(path.read_bytes())") == {"safe_load", "read_bytes"}
    assert not reads_of("path.open('w')\nforeign.read_text(path)")


LENIENT = {"replace", "ignore", "backslashreplace"}


def test_text_is_decoded_in_one_place():
    """A reader that replaces what it cannot decode would put broken names into a checkpoint."""
    found = set()
    for file in sorted(HOUSE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in TEXT:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                if any(isinstance(v, ast.Constant) and v.value in LENIENT for v in values):
                    found.add(file.relative_to(HOUSE).as_posix())
    assert found == {"foreign.py"}  # its `glance`, of which nothing may be kept


TEXT = {"decode", "read_text", "decoded", "open"}
