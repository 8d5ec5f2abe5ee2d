"""Entry point of `python -m datadog`."""

import sys

from datadog.command import main

if __name__ == "__main__":
    sys.exit(main())
