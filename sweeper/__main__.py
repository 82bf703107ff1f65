"""`python -m sweeper` is the command `sweeper`."""

import sys

from sweeper.cli.main import main

sys.exit(main())
