"""`python -m registration_persistence`: the same as `registration-persistence`."""

import sys

from registration_persistence.cli import main

sys.exit(main())
