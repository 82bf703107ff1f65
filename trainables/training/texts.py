"""One split of texts where the training loop can take batches from it: tokens, as far as the longest of a batch.

Shapes: N examples, B of a batch, L tokens of its longest text, K rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainables.arrays import Ints
from trainables.data.base import Groups
from trainables.data.texts.tokens import Tokenised
from trainables.training.samples import Samples

NO_TOKEN = -1  # behind the end of a text: no token of any model, so that a model's own padding may be one
POOL = 16  # batches whose texts are sorted by length
_TOKEN_PIXELS = 16**2  # a token costs about what a ViT's patch does


class Texts(Samples):
    """Texts as tokens, labels and groups of one split."""

    def __init__(self, found: Tokenised, labels_N: Ints, groups: Groups, *, device: torch.device) -> None:
        self._found = found
        self._keep(labels_N, groups, device)

    @property
    def images_device(self) -> torch.device:
        """The CPU: texts are mapped from disk."""
        return torch.device("cpu")

    @property
    def pixels(self) -> int:
        """Of the longest text, as many as cost about as much to look at."""
        return int(self.lengths_N.max(initial=1)) * _TOKEN_PIXELS

    @property
    def lengths_N(self) -> Ints:
        """Tokens of each text."""
        own_N = np.diff(self._found.starts_N1)
        if self._joined is not None:
            own_N = np.concatenate([part.lengths_N for part in self._joined if isinstance(part, Texts)])
        return own_N if self._rows_N is None else own_N[self._rows_N.numpy()]

    def by_length(self, order_N: Ints, batch_size: int, generator: np.random.Generator) -> Ints:
        """The order in batches of texts that are about as long, so that little is padded.

        Each `POOL` batches of the order are sorted by length and cut into batches anew; then the batches are shuffled.
        """
        lengths_N, batches = self.lengths_N, []
        for start in range(0, len(order_N), POOL * batch_size):
            pool = order_N[start : start + POOL * batch_size]
            pool = pool[np.argsort(lengths_N[pool], kind="stable")]
            batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
        short = [batches.pop()] if len(batches[-1]) < batch_size else []  # it must stay the last one
        return np.concatenate([*(batches[i] for i in generator.permutation(len(batches))), *short])

    def take(self, index_B: Tensor | slice) -> Tensor:
        """Tokens, `[B, L]` int64 on the device, and `NO_TOKEN` behind the end of each text."""
        texts = self._texts(index_B)
        tokens_BL = np.full((len(texts), max(map(len, texts), default=1)), NO_TOKEN, np.int64)
        for row_L, text in zip(tokens_BL, texts, strict=True):
            row_L[: len(text)] = text
        batch = torch.from_numpy(tokens_BL)
        if self._device.type == "cuda":
            batch = batch.pin_memory()
        return batch.to(self._device, non_blocking=True)

    def _texts(self, index_B: Tensor | slice) -> list[Ints]:
        rows_N = torch.arange(len(self)) if self._rows_N is None else self._rows_N
        return [self._text(row) for row in rows_N[index_B].tolist()]

    def _text(self, row: int) -> Ints:
        """A text of all that there are, whatever part of them this is."""
        if self._joined is None:
            return self._found.tokens_T[self._found.starts_N1[row] : self._found.starts_N1[row + 1]]
        first, second = self._joined
        part, place = (first, row) if row < len(first) else (second, row - len(first))
        assert isinstance(part, Texts)
        return part._texts(torch.tensor([place]))[0]
