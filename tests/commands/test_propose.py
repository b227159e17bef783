"""`detkit propose` from the command line: what it writes, says and refuses."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from folders import coco_dict, three, write_voc

from detkit.__main__ import main
from detkit.config import compose
from detkit.proposals.files import ProposalsFile

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ["dataset=shapes", "dataset.val_images=3", "dataset.size=96"]


def run(*arguments) -> None:
    assert main(["propose", "workers=0", *map(str, arguments)]) == 0


def test_boxes_are_written_measured_and_read_again(tmp_path, capsys):
    cache = f"folder={tmp_path / 'cache'}"
    run(*SHAPES, cache, "at_most=400", "format=json", f"output={tmp_path / 'a'}")
    said = capsys.readouterr().out
    assert said.startswith("proposing by selective_search (mode fast, seed 0, ")
    assert "for 3 images of val" in said
    assert re.search(r"^boxes +recall@0.5 +recall@0.7 +AR +MABO\n +100 ", said, re.MULTILINE)
    assert "CPU seconds an image (median of 3)" in said
    first = json.loads((tmp_path / "a" / "results.json").read_text())
    assert first["proposals/recall@0.5"] > 0.9
    assert f"done: recall@0.5 {first['proposals/recall@0.5']:.3f}, MABO 0." in said
    assert first["proposer.at_most"] == 400

    run(*SHAPES, cache, "at_most=400", f"output={tmp_path / 'b'}")
    assert "in the cache: 3 images" in capsys.readouterr().out
    written = [tmp_path / "a" / "proposals.json", tmp_path / "b" / "proposals.npz"]
    image = np.zeros((96, 96, 3), np.uint8)
    found = [ProposalsFile(path)(image, image_id=10000001, file="") for path in written]
    np.testing.assert_array_equal(*found)

    run(*SHAPES, "proposer=file", f"path={written[0]}", f"output={tmp_path / 'c'}")
    assert "proposing by file (path " in capsys.readouterr().out
    third = json.loads((tmp_path / "c" / "results.json").read_text())
    same = [key for key in first if key.startswith("proposals/")]
    assert {key: third[key] for key in same} == {key: first[key] for key in same}
    assert (third["clipped"], third["dropped"]) == (0, 0)

    rows = json.loads(written[0].read_text())
    rows[0]["bbox"], rows[1]["bbox"] = [90, 0, 9, 9], [99, 0, 9, 9]
    written[0].write_text(json.dumps(rows))
    run(*SHAPES, "proposer=file", f"path={written[0]}", f"output={tmp_path / 'c'}")
    assert "1 boxes were cut at the image's border, 1 without" in capsys.readouterr().out


def test_a_folder_of_ones_own_is_recognised_and_two_processes_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = three()
    write_voc(tmp_path / "data", pictures, {"val": [p.stem for p in pictures]})
    arguments = ["dataset.root=data", "mode=single", "folder=cache", "workers=2"]
    assert main(["propose", *arguments]) == 0
    (written,) = tmp_path.glob("proposals/*/proposals.npz")
    assert len(np.load(written).files) == len(coco_dict(pictures)["images"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no images"),
        ([*SHAPES, "proposer=selectiv_search"], "Did you mean selective_search?"),
        ([*SHAPES, "proposer=file"], "No file of proposals is named"),
        ([*SHAPES, "path=p.npz"], "proposer=selective_search takes no path"),
        ([*SHAPES, "mode=slow"], "mode cannot be"),
        ([*SHAPES, "at_most=0"], "at_most cannot be"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["propose", "workers=0", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["results.json", "proposals.npz"])
def test_nobody_elses_file_is_replaced_but_its_own_are(tmp_path, capsys, name):
    given = [*SHAPES, "mode=single", f"folder={tmp_path / 'cache'}", f"output={tmp_path / 'out'}"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"images": []}')
    assert main(["propose", "workers=0", *given]) == 2
    assert "not propose's" in capsys.readouterr().err
    (tmp_path / "out" / name).unlink()
    run(*given)
    run(*given)


def test_the_commands_of_its_page_compose():
    text = (ROOT / "docs" / "proposals.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line]
    assert len(lines) > 2
    for line in lines:
        script, *argv = shlex.split(line, comments=True)[1:]
        assert (ROOT / script).is_file()
        compose(Path(script).stem, argv)
