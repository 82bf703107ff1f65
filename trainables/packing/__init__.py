"""Several fits trained through one pass of the frozen weights that they share, each as if it were alone."""

from trainables.packing.calibration import gain
from trainables.packing.pack import Pack
from trainables.packing.together import Unpackable

__all__ = ["Pack", "Unpackable", "gain"]
