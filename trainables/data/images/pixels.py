"""An image file of any kind as 8-bit RGB, by one rule for each kind; or why it cannot be that.

| a file has | its pixels are |
|---|---|
| 1 bit, grey, a palette, RGB, YCbCr, CMYK, LAB | as Pillow converts them; colour profiles are not applied |
| whole numbers of 9 to 16 bits | scaled by the file's own depth: its largest number (4095 of 12 bits) is white |
| float | 0 is black, 1 is white; a file with other numbers is bad: what is white in it is not known |
| whole numbers of 32 bits, or signed | the file is bad, for the same reason |
| transparency | composed on white |
| several frames or pages | of the first one |
| an EXIF orientation | turned upright where that is asked for (TIFF and HEIC are always: it is part of their format) |

A file that says it has more than `MOST_PIXELS` is not decoded, and no more than that are at the same time. Pillow takes
four bytes for a pixel, in at most two pictures here: 0.8 GB, of any kind but WebP, whose decoder keeps 1.4 GB itself.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

RULES = 2  # the number of the rules above; by 1 the first 8 of 16 bits were taken, and transparency was left out
WHITE = (255, 255, 255)
MOST_PIXELS = 89_478_485  # Pillow's own bound for a warning: a quarter of a gigabyte of 8-bit RGB
# What Pillow decodes by itself. Not EPS, which runs Ghostscript, nor WMF; others it names but has no decoder for.
FORMATS = (
    *("AVIF", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000"),
    *("MSP", "PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
HEIF = "HEIF"  # read where the package pillow-heif is
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0  # tags of TIFF
# Measured on crops of photos: with 8 of 128 bits digits-on-scenes' crops of one photo are not taken for copies; with 64
# bits hundreds are. A package for five lines (imagehash, PyWavelets) is not needed.
_ALIKE = 8
_FLAT = 8  # levels of grey between the lightest and the darkest cell
_BLOCK = 256


class Room:
    """For so many pixels at the same time, whichever thread decodes them."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for these."""
        with self._changed:
            self._changed.wait_for(lambda: pixels <= self._free)
            self._free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._free += pixels
                self._changed.notify_all()


_room = Room(MOST_PIXELS)


@functools.cache
def readable() -> tuple[str, ...]:
    """The formats that are read here. Call it before threads decode: it loads Pillow's decoders."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such a file becomes a bad record
    Image.init()
    formats = tuple(name for name in FORMATS if name in Image.OPEN)
    try:
        import pillow_heif
    except ImportError:
        return formats
    pillow_heif.register_heif_opener()
    return (*formats, HEIF)


@functools.cache
def endings() -> frozenset[str]:
    """The endings of names, such as `.jpg`, of the formats that are read here, and of HEIC, which may be."""
    formats = {*readable(), "MPO"}  # which the decoder of JPEG reads
    known = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    return frozenset(known | {".heic", ".heif", ".heics", ".heifs", ".hif", ".avif"})


def problem(file: BinaryIO, use: Callable[[Image.Image], object]) -> str | None:
    """Why `use` could not have the first image in `file`, in words; None where it could."""
    try:
        with Image.open(file, formats=readable()) as image:
            pixels = image.width * image.height
            if pixels > MOST_PIXELS:
                raise Image.DecompressionBombError
            with _room.taken(pixels):
                use(image)
    except MemoryError:  # says something about this machine, not about the file
        raise
    except Image.DecompressionBombError:
        return f"says it has more than {MOST_PIXELS:,} pixels, and is not decoded. Scale it down"
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS and HEIF not in readable():
            return "is HEIC, which needs the package pillow-heif: pip install 'sweeper[heic]'"
        return "is not an image that Pillow can read"
    except Exception as error:  # damaged bytes make Pillow raise nearly anything
        return f"cannot be decoded: {type(error).__name__}: {error}"
    return None


def rgb(image: Image.Image, *, upright: bool = False) -> Image.Image:
    """The image in 8-bit RGB; `upright` turns it as its EXIF orientation says.

    Raises:
        ValueError: it is not known which of its numbers is white.
    """
    image.load()
    turn = _TURNS.get(_orientation(image)) if upright else None
    grey = _eight_bits(image)
    if grey is not None:
        flat = grey.convert("RGB")
    elif image.has_transparency_data:
        flat = _on_white(image)
    else:
        flat = image if image.mode == "RGB" else image.convert("RGB")
    return flat if turn is None else flat.transpose(turn)


def ruled(path: Path) -> bool:
    """Whether the rules have changed for what is in the file: more than 8 bits, or transparency. Nothing is decoded."""
    try:
        with Image.open(path, formats=readable()) as image:
            return image.mode.startswith(("I", "F")) or image.has_transparency_data
    except Exception:  # damaged bytes make Pillow raise nearly anything; such a file is a bad record, by any rules
        return False


def frames(image: Image.Image) -> int:
    """How many frames or pages the file has, of which the first is used."""
    return int(getattr(image, "n_frames", 1))


def _eight_bits(image: Image.Image) -> Image.Image | None:
    """A grey image of more than 8 bits in 8 (on white, where it has a transparent grey); None for any other."""
    if image.mode == "F":
        ends = [(values.min(), values.max()) for values in (np.asarray(strip) for _, strip in _strips(image))]
        low, high = float(np.min(ends)), float(np.max(ends))
        if not (low >= 0 and high <= 1):  # so written, nan is refused too
            said = f"float values from {low:g} to {high:g}"
            raise ValueError(f"it holds {said}, and only 0 (black) to 1 (white) are defined. Scale them")
        return _greys(image, lambda values: np.rint(values * 255))
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # of these Pillow makes 16 bits, whatever they had
        raise ValueError("it holds whole numbers of 32 bits or signed ones, of which white is not known. Save 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return None
    tags = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
    shown = np.minimum(np.rint(np.arange(65536) * (255 / white)), 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        shown = 255 - shown
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        shown[clear] = 255
    return _greys(image, lambda values: shown[values])


def _greys(image: Image.Image, eight_bits: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Image.Image:
    grey = np.empty((image.height, image.width), np.uint8)
    for top, values in _strips(image):
        grey[top : top + values.height] = eight_bits(np.asarray(values))
    return Image.fromarray(grey)


def _strips(image: Image.Image, rows: int = 256) -> Iterator[tuple[int, Image.Image]]:
    """So many rows at a time, each with the number of its first: what is made of a whole image is one copy more."""
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, WHITE)
    for top, strip in _strips(image):
        rgba = strip.convert("RGBA")
        canvas.paste(rgba, (0, top), rgba)
    return canvas


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata turns nothing, and says nothing about the pixels
        return 1


def outline(image: Image.Image) -> str | None:
    """A difference hash, 32 hex digits: is each cell of a 9 x 9 grid lighter than its left and upper neighbour?

    Copies that are scaled or compressed anew differ in few of its 128 bits. None for a flat image: chance would decide.
    """
    grid = np.asarray(image.convert("L").resize((9, 9), Image.Resampling.BOX)).astype(np.int16)
    if np.ptp(grid) < _FLAT:
        return None
    lighter = np.stack([grid[:8, 1:] > grid[:8, :8], grid[1:, :8] > grid[:8, :8]])
    return np.packbits(lighter).tobytes().hex()


def alike(outlines: Sequence[str | None], others: Sequence[str | None]) -> list[int | None]:
    """For each outline the position of the nearest of `others`; None where none differs in `_ALIKE` bits or fewer."""
    found: list[int | None] = [None] * len(outlines)
    mine, theirs = _known(outlines), _known(others)
    if not len(theirs):
        return found
    those_M2 = _words(others, theirs)
    for start in range(0, len(mine), _BLOCK):
        rows = mine[start : start + _BLOCK]
        differing_BM = np.bitwise_count(_words(outlines, rows)[:, None] ^ those_M2).sum(2, dtype=np.uint8)
        for row, nearest, bits in zip(rows, differing_BM.argmin(1), differing_BM.min(1), strict=True):
            if bits <= _ALIKE:
                found[row] = theirs[nearest]
    return found


def _known(outlines: Sequence[str | None]) -> list[int]:
    return [i for i, outline in enumerate(outlines) if outline is not None]


def _words(outlines: Sequence[str | None], rows: list[int]) -> npt.NDArray[np.uint64]:
    """Of these rows as two words each, `[K, 2]`."""
    return np.frombuffer(bytes.fromhex("".join(outlines[i] or "" for i in rows)), np.uint64).reshape(-1, 2)
