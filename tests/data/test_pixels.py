"""The pixels that train are the pixels of the file: each kind of image by its own stated rule."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from trainables.data.images import pixels
from trainables.data.images.transform import Transform

ORIENTATION = 0x0112


def written(image: Image.Image, format: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def read(file: io.BytesIO, *, upright: bool = False) -> np.ndarray:
    """The pixels [H, W, 3] of a file that can be read."""
    taken: list[np.ndarray] = []
    assert pixels.problem(file, lambda image: taken.append(np.asarray(pixels.rgb(image, upright=upright)))) is None
    return taken[0]


def refusal(file: io.BytesIO) -> str:
    said = pixels.problem(file, pixels.rgb)
    assert said is not None
    return said


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)


RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_16_bits_keep_their_whole_range(format: str) -> None:
    lossless = {"irreversible": False} if format == "JPEG2000" else {}
    shown = read(written(Image.fromarray(RAMP), format, **lossless))
    assert (shown == grey(np.rint(RAMP / 257))).all()
    assert (shown.min(), shown.max()) == (0, 255)


def test_the_depth_is_the_files_own() -> None:
    maxval_1023 = io.BytesIO(b"P5 3 1 1023\n" + struct.pack(">3H", 0, 512, 1023))
    assert read(maxval_1023)[0, :, 0].tolist() == [0, 128, 255]
    twelve = bytes.fromhex("000 800 fff 0".replace(" ", ""))
    assert read(tiff(twelve, bits=12, width=3))[0, :, 0].tolist() == [0, 128, 255]


def tiff(data: bytes, *, bits: int, width: int, photometric: int = 1) -> io.BytesIO:
    """A grey TIFF of one row, written by hand: Pillow writes no 12 bits."""
    tags = [(256, 3, width), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 3, 1), (279, 4, len(data))]
    padded = data + b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(padded))
    return io.BytesIO(header + padded + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))


def test_a_tiff_whose_white_is_nought_is_not_a_negative() -> None:
    data = struct.pack("<3H", 0, 32768, 65535)
    assert read(tiff(data, bits=16, width=3))[0, :, 0].tolist() == [0, 128, 255]
    assert read(tiff(data, bits=16, width=3, photometric=0))[0, :, 0].tolist() == [255, 127, 0]


def test_float_is_from_black_0_to_white_1_and_nothing_else() -> None:
    values = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    assert read(written(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 64, 128, 255]
    for wrong, said in (
        (np.array([[0, 812.5]], np.float32), "float values from 0 to 812.5"),
        (np.array([[-0.5, 1]], np.float32), "float values from -0.5 to 1"),
        (np.array([[np.nan, 1]], np.float32), "float values from nan to nan"),
        (np.array([[0, np.inf]], np.float32), "float values from 0 to inf"),
    ):
        assert f"{said}, and only 0 (black) to 1 (white) are defined" in refusal(
            written(Image.fromarray(wrong), "TIFF")
        )


def test_whole_numbers_whose_white_is_not_known_are_refused() -> None:
    many = Image.fromarray(np.array([[0, 100_000]], np.int32))
    assert "of which white is not known. Save 16 bits" in refusal(written(many, "TIFF"))


CLEAR = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)  # red, clear (hides red), half black
ON_WHITE = [[255, 0, 0], [255, 255, 255], [127, 127, 127]]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "TGA", "ICO"])
def test_what_is_transparent_is_white(format: str) -> None:
    image = Image.fromarray(CLEAR).resize((48, 16), Image.Resampling.NEAREST)
    options = {"WEBP": {"lossless": True, "exact": True}, "ICO": {"sizes": [(48, 16)]}}.get(format, {})
    shown = read(written(image, format, **options))
    assert shown[8, [8, 24, 40]].tolist() == ON_WHITE


def test_grey_with_alpha_and_transparent_colours_of_palettes_and_greys_are_white_too() -> None:
    la = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")
    assert read(written(la, "PNG"))[0, :, 0].tolist() == [10, 255]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert read(written(palette, "PNG"))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    for format in ("PNG", "GIF"):
        assert read(written(palette, format, transparency=1))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert read(written(palette, "PNG", transparency=bytes([255, 0])))[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    plain = Image.fromarray(np.array([[7, 9]], np.uint8))
    assert read(written(plain, "PNG", transparency=9))[0, :, 0].tolist() == [7, 255]
    deep = Image.fromarray(np.array([[257, 514]], np.uint16))
    assert read(written(deep, "PNG", transparency=514))[0, :, 0].tolist() == [1, 255]
    colours = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert read(written(colours, "PNG", transparency=(4, 5, 6)))[0].tolist() == [[1, 2, 3], [255, 255, 255]]


def test_one_bit_cmyk_and_the_inverted_cmyk_of_adobe() -> None:
    assert read(written(Image.fromarray(np.array([[True, False]])), "PNG"))[0, :, 0].tolist() == [255, 0]
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    for format in ("TIFF", "JPEG"):  # Pillow writes a JPEG as Adobe does
        assert np.abs(read(written(ink, format))[4, 4].astype(int) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PNG", "WEBP", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_used_and_they_are_counted(format: str) -> None:
    first, *others = (Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue"))
    options = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(format, {})
    file = written(first, format, save_all=True, append_images=others, **options)
    assert np.abs(read(file)[8, 8].astype(int) - [255, 0, 0]).max() <= 3
    file.seek(0)
    with Image.open(file) as image:
        assert pixels.frames(image) == 3


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_where_that_is_asked_for(format: str, orientation: int) -> None:
    """Each of the eight orientations of one picture, dark but for a light left upper corner, as cameras store them."""
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright[::-1, ::-1].T,
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = written(Image.fromarray(np.ascontiguousarray(stored)).convert("RGB"), format, exif=exif.tobytes())
    assert np.abs(read(file, upright=True)[:, :, 0].astype(int) - upright).max() < 40
    assert np.abs(read(file)[:, :, 0].astype(int) - stored).max() < 40


def test_the_orientation_of_a_tiff_is_part_of_it_and_is_applied_once() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION] = 6
    row = Image.fromarray(np.array([[10, 20, 30]], np.uint8))
    for upright in (False, True):
        assert read(written(row, "TIFF", tiffinfo=tags), upright=upright)[:, 0, 0].tolist() == [10, 20, 30]


def test_damaged_exif_turns_nothing_and_condemns_nothing() -> None:
    file = written(Image.new("RGB", (8, 8), "red"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    assert read(file, upright=True).shape == (8, 8, 3)


def png(width: int, height: int, *, rows: int | None = None) -> io.BytesIO:
    """A PNG of one bit, black, that deflates to next to nothing; it holds all its rows, or fewer."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    body = zlib.compress(bytes((width + 7) // 8 + 1) * (height if rows is None else rows), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def headers(width: int, height: int) -> dict[str, io.BytesIO]:
    """Files that say a size and hold next to nothing."""
    return {
        "png": png(width, height, rows=1),
        "ppm": io.BytesIO(f"P6 {width} {height} 255\n".encode()),
        "gif": io.BytesIO(b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0;"),
        "bmp": io.BytesIO(
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)
        ),
    }


@pytest.mark.parametrize("kind", ["png", "ppm", "gif", "bmp"])
@pytest.mark.parametrize("size", [(50_000, 50_000), (11_000, 11_000)])
def test_a_header_that_says_huge_is_a_bad_record_and_is_not_decoded(kind: str, size: tuple[int, int]) -> None:
    def use(image: Image.Image) -> None:
        raise AssertionError("decoded")

    said = pixels.problem(headers(*size)[kind], use)
    assert said == "says it has more than 89,478,485 pixels, and is not decoded. Scale it down"


def test_so_many_pixels_are_decoded_at_a_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_room", pixels.Room(2 * 16 * 16))
    met: list[bool] = []
    both = threading.Barrier(2)

    def use(image: Image.Image) -> None:
        try:
            both.wait(0.3)
        except threading.BrokenBarrierError:
            both.reset()
        else:
            met.append(image.width == 16)

    for size in (16, 20):  # two of the one size have room together, of the other one after the other
        threads = [threading.Thread(target=pixels.problem, args=(png(size, size), use)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert met == [True, True]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_image_of_many_strips_is_composed_as_a_whole(mode: str) -> None:
    alpha = Image.fromarray(np.arange(3 * 700, dtype=np.uint16).astype(np.uint8).reshape(700, 3))
    image = Image.merge(
        "RGBA", [alpha.point(lambda value, part=part: 255 - value // part) for part in (1, 2, 3)] + [alpha]
    )
    file = written(image.convert(mode), "PNG", **({"transparency": 3} if mode == "P" else {}))
    with Image.open(file) as opened:
        rgba = np.asarray(opened.convert("RGBA")).astype(float)
    file.seek(0)
    share = rgba[:, :, 3:] / 255
    expected = rgba[:, :, :3] * share + 255 * (1 - share)
    assert np.abs(read(file) - expected).max() <= 1


PEAK = """
import resource, sys
from sweeper.cli import main
code = main.main(["data", "check", sys.argv[1]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.stderr)
"""


@pytest.mark.slow
def test_data_check_of_huge_images_needs_less_than_a_gigabyte(tmp_path: Path) -> None:
    """As large as they may be, of the kinds that need most; without a bound on threads and copies it was twice that."""
    side = int(pixels.MOST_PIXELS**0.5)
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.new("LA", (side, side), (9, 9)).save(tmp_path / "data" / label / "grey.png", compress_level=1)
        Image.new("CMYK", (side, side), (9, 9, 9, 9)).save(tmp_path / "data" / label / "print.jpg", exif=turned(6))
        for i in range(10):
            Image.new("RGB", (8, 8), (i, ord(label), 0)).save(tmp_path / "data" / label / f"{i}.png")
    environment = os.environ | {"SWEEPER_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", PEAK, str(tmp_path / "data")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "images that cannot be read: 0" in done.stdout, done.stderr
    assert float(done.stderr.split()[-1]) < 1000


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def test_a_strip_that_scaling_would_blow_up_is_refused() -> None:
    strip = png(1, 60_000)
    said = pixels.problem(strip, Transform(224, "shorter"))
    assert said is not None
    assert "it is 1 x 60000, too narrow to be scaled to a side of 224" in said
    strip.seek(0)
    assert pixels.problem(strip, Transform(224, "squash")) is None


def test_a_program_in_an_images_clothes_is_not_run() -> None:
    """Pillow gives EPS to Ghostscript, whatever the file's name."""
    eps = io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    assert refusal(eps) == "is not an image that Pillow can read"


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
def test_what_telephones_write_is_read(format: str) -> None:
    pixels.readable()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.new("RGB", (32, 16), (200, 30, 40))
    shown = read(written(image, format, exif=exif.tobytes()), upright=True)
    assert shown.shape == (32, 16, 3)
    assert np.abs(shown[8, 8].astype(int) - [200, 30, 40]).max() <= 6


def test_a_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels.readable()
    file = written(Image.new("RGB", (32, 16)), "HEIF")
    formats = tuple(name for name in pixels.readable() if name != pixels.HEIF)
    monkeypatch.setattr(pixels, "readable", lambda: formats)
    assert refusal(file) == "is HEIC, which needs the package pillow-heif: pip install 'sweeper[heic]'"


# --- outlines


def photo(seed: int) -> Image.Image:
    """Smooth and irregular, as photos are."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)


def test_copies_have_like_outlines_and_other_images_have_not() -> None:
    mine = [pixels.outline(photo(seed)) for seed in range(40)]
    smaller = [pixels.outline(photo(seed).resize((70, 70))) for seed in (3, 11)]
    compressed = pixels.outline(Image.open(written(photo(20), "JPEG", quality=60)).convert("RGB"))
    lighter = pixels.outline(photo(30).point([min(255, v + 12) for v in range(256)] * 3))
    assert pixels.alike([*smaller, compressed, lighter, pixels.outline(photo(99))], mine) == [3, 11, 20, 30, None]
    assert pixels.alike(mine, [pixels.outline(photo(seed)) for seed in range(40, 80)]) == [None] * 40


def test_a_flat_image_has_no_outline_and_is_like_none() -> None:
    flat = pixels.outline(Image.new("RGB", (32, 32), (90, 90, 90)))
    assert flat is None
    assert pixels.alike([flat, pixels.outline(photo(0))], [None, flat]) == [None, None]
    assert pixels.alike([], [pixels.outline(photo(0))]) == []


def test_the_outline_of_a_checker_is_what_one_can_count(tmp_path: Path) -> None:
    """A ramp to the right is lighter than its left neighbour in all 64 cells, and than its upper one in none."""
    ramp = Image.fromarray(np.repeat(np.arange(0, 252, 28, dtype=np.uint8)[None], 9, axis=0))
    assert pixels.outline(ramp.convert("RGB")) == "f" * 16 + "0" * 16
    assert pixels.outline(ramp.rotate(-90).convert("RGB")) == "0" * 16 + "f" * 16
