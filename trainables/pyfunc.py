"""A registered fit as MLflow serves it: images or texts in, a table of labels and probabilities out; no MLflow in it.

Shapes: N images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from trainables import serving
from trainables.arrays import Pixels

_BATCH = 32


class Fitted:
    """A fit that answers."""

    def __init__(self, folder: Path) -> None:
        self._served = serving.load(folder)

    def predict(self, images: Iterable[Pixels] | pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row for each image: its `label`, and each label's probability in a column of its name.

        `images` are [N, H, W, 3], uint8, of any height and width; they are resized as those of validation were.
        A language model takes texts, as a list or in a column `text`.
        """
        if self._served.reading is not None:
            texts = list(images["text"] if isinstance(images, pd.DataFrame) else images)
            parts = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
            return self._table([row for part in parts for row in self._served.of_texts(part)])
        transform = self._served.transform
        assert transform is not None
        seen = (Image.fromarray(np.asarray(image, dtype=np.uint8)) for image in images)
        looks = [transform(image).copy() for image in seen]
        rows = [
            row
            for start in range(0, len(looks), _BATCH)
            for row in self._served.probabilities(looks[start : start + _BATCH])
        ]
        return self._table(rows)

    def _table(self, rows: list[list[float]]) -> pd.DataFrame:
        table = pd.DataFrame(rows, columns=list(self._served.labels), dtype=np.float64)
        table.insert(0, "label", table.idxmax(axis=1) if rows else [], allow_duplicates=True)
        return table
