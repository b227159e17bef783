"""Folders for results: each for one, and only one process in each."""

import subprocess
import sys

import pytest

from detkit.errors import DetkitError
from detkit.folders import dated, held, in_home, make_folder

HOLD = """
import sys
from detkit.folders import held
with held(sys.argv[1]):
    print(1, flush=True)
    input()
"""


def test_two_of_the_same_second_are_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [dated("there", "output", "_x") for _ in range(3)]
    assert len(set(made)) == 3
    assert all(folder.is_dir() and "_x" in folder.name for folder in made)


def test_a_parent_that_cannot_be_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(tmp_path / "nowhere" / "runs")
    with pytest.raises(DetkitError, match="cannot be made"):
        dated("runs", "run_dir")


def test_a_file_system_without_locks_holds_nothing_up(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(handle, how):
        raise OSError(95, "not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(tmp_path):
        pass


def test_a_folder_is_held_against_other_processes_until_they_end(tmp_path):
    pytest.importorskip("fcntl")
    call = [sys.executable, "-c", HOLD, str(tmp_path)]
    other = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"1\n"
    with pytest.raises(DetkitError, match="Another process") as error, held(tmp_path, patience=0):
        pass
    assert error.value.file == tmp_path
    other.kill()
    other.wait()
    for _ in range(2):
        with held(tmp_path, patience=5):
            pass


def test_a_home_that_nobody_has_is_told():
    with pytest.raises(DetkitError, match="home folder of ~no-such-user"):
        in_home("~no-such-user/x")


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DetkitError, match=r"output=DIR"):
        make_folder(tmp_path / "file" / "x", "output")
