"""`python -m registration_persistence`: the same as `registration-persistence`."""

import sys
from contextlib import suppress
from pathlib import Path

# Python has put the current folder first, in which a file could replace a module that is imported later.
with suppress(FileNotFoundError):  # the current folder has been removed
    if not sys.flags.safe_path and sys.path[0] == str(Path.cwd()):
        del sys.path[0]

from registration_persistence.cli import main

sys.exit(main())
