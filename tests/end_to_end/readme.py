"""The commands of README.md and its pages, and a way to run many without importing torch for each.

`python readme.py < COMMANDS` runs scripts one after the other in this one process: COMMANDS is a
JSON list of [folder, [script, argument, …]]; what each printed and its exit status come out as one
JSON line. The scripts run as `__main__`, as from the shell.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("data", "training", "evaluation", "prediction")),
    ROOT / "docs" / "python.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("troubleshooting", "coming_from")),
]


class Done(NamedTuple):
    """How a command ended, and what it wrote to both streams."""

    status: int
    output: str


def commands(kind: str = "bash|sh") -> list[tuple[str, str]]:
    """(section, command) of the pages' code blocks, comments and `…` taken off."""
    found, section, block = [], "", None
    for line in "\n".join(page.read_text(encoding="utf-8") for page in PAGES).splitlines():
        if fence := re.match(r"```(\w*)", line):
            block = fence[1] if block is None else None
        elif block is None and (heading := re.match(r"#+ (.*)", line)):
            section = heading[1]
        elif block is not None and re.fullmatch(kind, block):
            command = re.sub(r"\s+(#.*|…)$", "", line).removesuffix(" …")
            if command.strip():
                found.append((section, command))
    return found


def of_section(section: str, part: str) -> str:
    """The first command of a section that contains `part`."""
    return next(command for title, command in commands() if title == section and part in command)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def shell(command: str, folder: Path) -> Done:
    """One command through a shell, in a folder from which `scripts/` is seen."""
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**environment(), "PATH": beside},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return Done(done.returncode, done.stdout)


def together(calls: Iterable[tuple[Path, str]]) -> list[Done]:
    """The commands `python scripts/….py …`, each in its folder, in one process of their own."""
    plain = [[str(folder), shlex.split(command)[1:]] for folder, command in calls]
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(plain),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


def _run(folder: str, argv: list[str]) -> Done:
    os.chdir(folder)
    sys.argv, status, told = argv, 0, io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            traceback.print_exc()
            status = 1
    return Done(status, told.getvalue())


if __name__ == "__main__":
    for call in json.load(sys.stdin):
        print(json.dumps(_run(*call)), flush=True)
