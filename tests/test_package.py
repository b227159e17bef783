"""What `import detkit` does, and says when OpenCV is broken."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import detkit

ROOT = Path(__file__).resolve().parents[1]
REPAIR = "pip install --force-reinstall --no-deps "


def _import(folder, code="import detkit"):
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.parametrize(
    ("content", "package"),
    [
        # libGL is missing: the wheel without windows does not need it
        ("raise ImportError('libGL.so.1: cannot open shared object file: No such file')",
         "opencv-python-headless"),
        # two wheels in one folder, one half of each
        ("raise ImportError(\"cannot import name 'gapi' from partially initialized module\")",
         "opencv-python"),
        ("raise ModuleNotFoundError(\"No module named 'cv2.cv2'\")", "opencv-python"),
        ("raise AttributeError(\"module 'cv2' has no attribute 'dnn'\")", "opencv-python"),
        ("", "opencv-python"),  # an emptied module
        (None, "opencv-python"),  # an emptied folder: a namespace
    ],
)  # fmt: skip
def test_a_broken_cv2_is_answered_with_the_one_command_that_repairs_it(tmp_path, content, package):
    (tmp_path / "cv2").mkdir()
    if content is not None:
        (tmp_path / "cv2" / "__init__.py").write_text(content)
        done = _import(tmp_path)
    else:  # a namespace only counts where no other cv2 is on the path
        hide = f"import sys; sys.path = ['{tmp_path}', '{ROOT}'] + sys.path[-99:-1]; "
        done = _import(tmp_path, hide + "import detkit")
    assert done.returncode != 0
    assert done.stderr.strip().endswith(f"{REPAIR}{package}")


def test_the_import_is_light_and_asks_no_network():
    done = _import(
        "",
        "import sys, os, detkit; "
        "print(os.environ['NO_ALBUMENTATIONS_UPDATE'], "
        "sorted({'torch', 'hydra', 'albumentations'} & set(sys.modules)))",
    )
    assert done.stdout.split() == ["1", "[]"], done.stderr


@pytest.mark.parametrize(
    ("own", "wanted"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_that_wait_sleep_soon_unless_the_environment_says_more(own, wanted):
    known = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import detkit, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=known | own, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [wanted, "False"]


def test_load_is_there_and_nothing_else_is():
    from detkit.inference.predictor import load

    assert detkit.load is load
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        detkit.laod  # noqa: B018


def test_the_layers_of_the_design_are_those_that_the_linter_holds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = " ".join(project["tool"]["importlinter"]["contracts"][0]["layers"])
    here = {path.stem for path in (ROOT / "detkit").iterdir() if path.name != "__init__.py"}
    unlisted = {name for name in here if not name.startswith((".", "__pycache__"))}
    assert unlisted - set(layers.replace("|", " ").split()) == set()
