"""`python -m sweeper` is the command `sweeper`."""

import sys

from sweeper.cli import main

sys.exit(main())
