"""Freed memory is kept, so that a step does not pay for the pages of the step before."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from detkit.ops.device import keep_freed_memory
if {keep}:
    keep_freed_memory()
def work():
    for _ in range(8):
        torch.ones(16_000_000)  # 64 MB: above any threshold that glibc moves by itself
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(keep):
    code = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is asked")
def test_a_freed_tensor_s_pages_serve_the_next_one():
    assert _faults(True) < _faults(False) / 4
