"""`python -m sweeper` is the command `sweeper`."""

import os
import sys

if not sys.flags.safe_path:  # -m has put the folder one stands in before all that is installed
    here = sys.path.pop(0)
    if here == os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        sys.path.append(here)  # a checkout that may not be installed

from sweeper.cli.main import main

sys.exit(main())
