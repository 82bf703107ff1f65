"""What MLflow imports from a registered model's `code` to load it; copied there alone, it needs nothing of ours.

Where trainables is not installed, the model's own copy is unpacked, which the model was trained with.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import zipfile
from importlib import util
from pathlib import Path
from typing import Any

ARCHIVE = "trainables.zip"


def _load_pyfunc(folder: str) -> Any:
    """The model in `folder`, for MLflow."""
    if util.find_spec("trainables") is None:
        place = tempfile.mkdtemp(prefix="trainables-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        with zipfile.ZipFile(Path(__file__).with_name(ARCHIVE)) as archive:
            archive.extractall(place)
        sys.path.insert(0, place)
    from trainables.pyfunc import Fitted

    return Fitted(Path(folder))
