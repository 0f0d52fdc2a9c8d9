"""``python -m otel_wirecap``: the command line."""

import sys

from otel_wirecap.cli import main

if __name__ == "__main__":
    sys.exit(main())
