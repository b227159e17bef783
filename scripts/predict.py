"""The same as `detkit predict key=value …`."""

import sys

from detkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
