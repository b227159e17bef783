"""Processes that make proposals end with the one that started them, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
import os, sys, time
from pathlib import Path
import numpy as np
from detkit.data.formats.shapes import read
from detkit.proposals.data_set import propose

class Slow:
    def __call__(self, image, *, image_id, file):
        (Path(sys.argv[1]) / str(os.getpid())).touch()
        time.sleep(0.05)
        return np.zeros((1, 4), np.float32)

if __name__ == "__main__":
    records = read(None, "train", needs=frozenset(), images=True, train_images=5000, size=32)
    for found in propose(Slow(), records, workers=2):
        pass
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT] * 2])
def test_no_process_outlives_the_main_one(tmp_path, signals):
    (tmp_path / "script.py").write_text(SCRIPT)
    pids = tmp_path / "pids"
    pids.mkdir()
    main = subprocess.Popen([sys.executable, tmp_path / "script.py", pids], start_new_session=True)
    deadline = time.monotonic() + 100
    while len(list(pids.iterdir())) < 2:
        assert main.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for number in signals:
        main.send_signal(number)
        time.sleep(0.2)
    assert main.wait(60) != 0
    workers = [int(file.name) for file in pids.iterdir()]
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "workers go on"
        time.sleep(0.05)
