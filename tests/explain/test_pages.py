"""A page of every model: its pictures are there, the model computed nothing twice for it."""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess

import cv2
import pytest
import small

from detkit.errors import DetkitError
from detkit.explain import page
from detkit.explain.page import Picture, Section

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
IMAGE = re.compile(r'<img src="data:image/png;base64,([^"]+)"[^>]* data-file="([^"]+)"')
COUNTS = """<script>addEventListener("load", () => { const all = [...document.images];
parent.postMessage([all.length, all.filter(i => i.complete && i.naturalWidth > 0).length], "*") })
</script>"""
HOST = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><body><script>
addEventListener("message", e => { const p = document.createElement("p");
p.textContent = "found " + e.data.join(" of "); document.body.append(p) })</script>"""


@pytest.mark.parametrize("name", small.names())
def test_every_model_has_a_page_with_all_of_its_pictures(name, made):
    folder = made(name).folder
    text = (folder / "index.html").read_text()
    images = {file: base64.b64decode(data) for data, file in IMAGE.findall(text)}
    files = sorted(folder.glob("*.png"))
    assert sorted(images) == [file.name for file in files]
    assert len(images) == sum(len(section.pictures) for section in made(name).sections) >= 8
    for file in files:
        assert images[file.name] == file.read_bytes()
        assert cv2.imread(str(file)) is not None
    assert text.count("<img ") == len(images)
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)  # it needs no other file


@pytest.mark.parametrize("name", small.names())
def test_no_module_is_called_more_often_than_for_a_prediction(name, made):
    assert made(name).calls == made(name).plain


STAGES = {
    "faster_rcnn": ["Anchors and proposals", "RoIs and their scores"],
    "mask_rcnn": ["Anchors and proposals", "RoIs and their scores", "Masks"],
    "fast_rcnn": ["RoIs and their scores"],
    "rcnn": ["Regions and their scores"],
    "sppnet": ["Regions and their scores"],
    "ssd300": ["Default boxes and their scores"],
    "yolo_v1": ["Cells and their confidence"],
    "yolo_v2": ["Cells and their confidence"],
    "yolo9000": ["Cells and their confidence"],
    "yolo_v3": ["Cells and their confidence"],
    "darknet_cfg": ["Cells and their confidence"],
    "localizer": ["Cells and their boxes"],
}


@pytest.mark.parametrize("name", STAGES)
def test_a_detectors_stages_are_shown(name, made):
    titles = [section.title for section in made(name).sections]
    assert [title for title in titles if title in STAGES[name]] == STAGES[name]


def pictures(made, name: str) -> dict[str, Picture]:
    return {p.title: p for section in made(name).sections for p in section.pictures}


def test_why_an_anchor_was_positive_is_told(made):
    shown = pictures(made, "faster_rcnn")
    rows = shown["Anchors that were positive"].rows
    assert rows[0][-1] == "why it is positive"
    for *_, iou, why in rows[1:]:
        assert why.startswith("IoU from 0.7 on" if float(iou) >= 0.7 else "below 0.7")
    assert len(rows) > 1
    left = re.match(r"([\d,]+) of ([\d,]+) are left", shown["Proposals after NMS"].text)
    assert 0 < int(left[1].replace(",", "")) <= int(left[2].replace(",", ""))
    assert shown["Proposals before NMS"].text.startswith(left[2])


def test_the_cell_that_holds_the_centre_answers(made):
    # the box 10, 12, 44, 40 has its centre at 27, 26; cells of 16 pixels: column 1, row 1
    rows = pictures(made, "yolo_v1")["Cells that answer"].rows
    assert rows[1][:2] == ["1", "1, 1"]
    number, stride, cell, _, confidence = pictures(made, "yolo_v3")["Cells that answer"].rows[1]
    assert (number, cell) == ("1", f"{26 // int(stride)}, {27 // int(stride)}")
    assert 0 <= float(confidence) <= 1


def test_r_cnns_regions_are_shown_as_the_network_saw_them(made):
    assert "stretched to 64×64 pixels" in pictures(made, "rcnn")["Warped regions"].text
    assert "Warped regions" not in pictures(made, "sppnet")


def test_sppnets_bins_are_those_of_the_best_window(made):
    shown = pictures(made, "sppnet")
    assert "Bins of the spatial pyramid" not in pictures(made, "rcnn")
    text = shown["Bins of the spatial pyramid"].text
    box, cells = re.search(r"\(class \d, (.+?)\) is a window of (\d+×\d+) cells", text).groups()
    best = shown[next(title for title in shown if title.endswith("best regions"))].rows[1]
    assert box == best[1]
    left, top, right, bottom = map(int, box.split(", "))
    # cells of 16 pixels, centred on every sixteenth pixel from 0 on
    columns, rows = ((b - 1) // 16 - (a - 1) // 16 for a, b in ((left, right), (top, bottom)))
    assert cells == f"{columns}×{rows}"


def test_what_came_from_outside_is_shown_first(made):
    titles = list(pictures(made, "fast_rcnn"))
    assert titles.index("Proposals") < titles.index("The 4 best regions")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_chromium_shows_every_page_without_an_error(made, tmp_path):
    frames, wanted = [], []
    for name in small.names():
        text = (made(name).folder / "index.html").read_text()
        wanted.append(text.count("<img "))
        frames.append(f'<iframe srcdoc="{html.escape(text + COUNTS)}"></iframe>')
    (tmp_path / "host.html").write_text(HOST + "".join(frames))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000"]
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", (tmp_path / "host.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    found = re.findall(r"<p>found (\d+) of (\d+)</p>", done.stdout)
    assert sorted(found) == sorted((str(n), str(n)) for n in wanted), done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr


def test_what_others_wrote_stays(tmp_path):
    tmp_path.joinpath("index.html").write_text("mine")
    with pytest.raises(DetkitError, match="other files in this folder"):
        page.write(tmp_path, "x", [], [])
    assert tmp_path.joinpath("index.html").read_text() == "mine"
    own = tmp_path / "own"
    for title in ("a <title>", "again"):
        page.write(own, title, [], [Section("s", "t")])
    assert "<h1>again</h1>" in (own / "index.html").read_text()
