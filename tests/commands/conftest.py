"""Makes `calls` and `folders`, the writers of small data sets, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]
sys.path.append(str(HERE.parent / "contracts"))  # `small`
