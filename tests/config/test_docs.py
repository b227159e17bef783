"""The commands of docs/regions.md are commands."""

import re
import shlex
from pathlib import Path

import pytest

from detkit.config import compose

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/regions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_docs_composes(command):
    python, script, *arguments = shlex.split(command)
    assert python == "python"
    assert (ROOT / script).is_file()
    compose(Path(script).stem, arguments)
