"""The commands of docs/darknet.md compose, and `export` is a verb like the others."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from detkit.__main__ import main
from detkit.config import compose

ROOT = Path(__file__).resolve().parents[2]


def test_the_commands_of_its_page_compose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("yolov3-tiny.weights").touch()  # weights= looks for it; the others are nowhere
    text = (ROOT / "docs/darknet.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) > 7
    for line in lines:
        script, *argv = shlex.split(line, comments=True)[1:]
        assert (ROOT / script).is_file()
        compose(Path(script).stem, argv)


def test_a_format_that_there_is_not_is_refused(capsys):
    assert main(["export", "checkpoint=RUN", "format=onnx"]) == 2
    assert "darknet" in capsys.readouterr().err


def test_file_names_of_cfg_and_names_are_taken_as_they_are():
    said = ["checkpoint=a.weights", "cfg=it's (1).cfg", "names=a,b.names", "source=x"]
    settings = compose("predict", said)
    assert (settings.cfg, settings.names) == ("it's (1).cfg", "a,b.names")
