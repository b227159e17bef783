"""Times of Darknet's networks: each side is the one it is called, and what is amiss is named.

The other side here is a small stand-in for OpenCV, since OpenCV 5 reads no such files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detkit.__main__ import main
from detkit.backbones.darknet_cfg import DEFAULT
from detkit.commands import opencv_side

CV2 = """
__version__ = "4.0"
class error(Exception): pass
def setNumThreads(n): assert n >= 1
class dnn:
    def readNetFromDarknet(cfg, weights):
        assert open(weights, "rb").read() and "[yolo]" in open(cfg).read()
    class DetectionModel:
        def __init__(self, net): pass
        def setInputParams(self, scale, size, swapRB): assert size == (160, 160)
        def detect(self, picture, score, iou):
            import time; time.sleep(0.2)
            return [1], None, None
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in/cv2.py").write_text(CV2)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand_in"))
    monkeypatch.chdir(tmp_path)
    text = DEFAULT.read_text()
    cfg = tmp_path / "net.cfg"
    cfg.write_text(text.replace("width=416", "width=160").replace("height=416", "height=160"))
    return cfg


def test_ours_takes_turns_with_opencv_and_the_eager_module(stand_in, tmp_path, capsys):
    given = ["rows=[opencv]", f"checkpoint={stand_in}", "precisions=[fp32]", "repeats=2"]
    assert main(["benchmark", "model=darknet_cfg", *given, "output=out.json"]) == 0
    out = capsys.readouterr().out
    assert "OpenCV 4.0 in fp32" in out
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found) == {"opencv/fp32", "eager/fp32"}
    beside = found["opencv/fp32"]
    assert 0.2 <= beside["peer"] < 0.4
    assert beside["low"] <= beside["ratio"] <= beside["high"]
    assert found["eager/fp32"]["peer"] > 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "no network to time"),
        (["checkpoint=NET", "opencv=no_such_python"], "does not start"),
        (["checkpoint=NET", "opencv=PLAIN"], "readNetFromDarknet|does not read it|no OpenCV"),
    ],
)
def test_what_is_amiss_is_named(given, words, stand_in, tmp_path, capsys, monkeypatch):
    import re

    broken = tmp_path / "stand_in/cv2.py"
    broken.write_text(CV2.replace("readNetFromDarknet", "another"))
    names = {"NET": str(stand_in), "PLAIN": sys.executable}
    for name, value in names.items():
        given = [one.replace(name, value) for one in given]
    assert main(["benchmark", "model=darknet_cfg", "rows=[opencv]", *given]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_the_other_sides_script_needs_nothing_of_detkit():
    text = Path(opencv_side.__file__).read_text()
    assert "import detkit" not in text
    assert "from detkit" not in text
