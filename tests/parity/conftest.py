"""Makes `darknet_networks` importable here as it is in the script that makes the fixture."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
