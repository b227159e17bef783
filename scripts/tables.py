"""Writes the measured tables in README.md and docs from `docs/measured/`; `--check` compares."""

import argparse
import sys
from pathlib import Path

from detkit.commands.tables import tables
from detkit.errors import DetkitError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a table is not its rows'")
    try:
        tables(Path(__file__).resolve().parents[1], parser.parse_args().check)
    except DetkitError as error:
        sys.exit(str(error))
