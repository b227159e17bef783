"""The same as `detkit compare key=value …`."""

import sys

from detkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
