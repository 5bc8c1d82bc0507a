"""Makes thumbnails: decodes pictures, resizes them and encodes them. Nothing here waits or stores; `decoder` calls it in a process."""

import io
import re
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from PIL import Image, ImageCms
from PIL.Image import Resampling, Transpose
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from directus_tx.files import content
from directus_tx.files.encodings import Encoding
from directus_tx.schema.thumbnail_sizes import CONTAIN, Size

DECODED = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
"""The formats that are decoded, as Pillow calls them. What a content is counts, not its extension. AVIF is not among them: its headers may
tell another size than the encoded pixels have, and Pillow has no limit for these."""

OVERSAMPLING = 2
"""How many times more pixels a side of a picture has than its thumbnail, at least, when the picture is reduced in a fast and coarse way."""

MAX_SCANS = 100
"""The maximum number of scans of a JPEG. Each is a pass over all pixels, even if it has only ten bytes; progressive pictures have about
ten."""

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_TILE_WIDTH, _TILE_LENGTH = 322, 323
TIFF = (b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
_TRANSPOSED: Mapping[int, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What shows a picture upright, by the orientation in its EXIF data."""


CENTRE = (0.5, 0.5)
MAX_PROFILE = 2**16
"""The maximum bytes of a colour profile that is kept in thumbnails. Colours with a larger one are converted to sRGB."""


class NotResizable(Exception):
    """No thumbnail can be made of a content. The message says why."""


def check_pixels(width: int | None, height: int | None, most: int) -> None:
    """Raises NotResizable if a picture has more than *most* pixels."""
    if width is not None and height is not None and width * height > most:
        raise NotResizable(f"The picture has {width} x {height} pixels, which are more than {most} (files.max_pixels).")


def resized(source: BinaryIO, size: Size, encoding: Encoding, most: int, focus: tuple[float, float] = CENTRE) -> bytes:
    """Returns the thumbnail of a picture, the first frame of an animation, upright by its EXIF data, with its colour profile and without
    other metadata. *focus* is the point of the upright picture that is in the middle of a crop, as far as possible, in parts of its width
    and height. Decodes at most *most* pixels. Raises NotResizable if the content is no picture, is damaged or has more pixels, and
    MemoryError if there is not enough memory."""
    try:
        return _resized(source, size, encoding, most, focus)
    except (NotResizable, MemoryError):
        raise
    except Exception:
        # Decoders of hostile files may raise anything.
        raise NotResizable("The content is not a picture of which thumbnails are made, or it is damaged.") from None


def _resized(source: BinaryIO, size: Size, encoding: Encoding, most: int, focus: tuple[float, float]) -> bytes:
    with opened(source, most) as original:
        _check_work(original, source, most)
        if original.format == "TIFF":
            # Pillow turns TIFF upright when it decodes it.
            original.load()
        orientation = _orientation(original)
        upright, swapped = _TRANSPOSED.get(orientation), is_turned(orientation)
        width, height = (size.height, size.width) if swapped else (size.width, size.height)
        point = _stored_point(focus, upright)
        target, needed, box = _geometry(original.size, width, height, None if size.fit == CONTAIN else point)
        full = original.size
        original.draft(original.mode, (needed[0] * OVERSAMPLING, needed[1] * OVERSAMPLING))
        scale = (original.size[0] / full[0], original.size[1] / full[1])
        picture = _smooth(original)
        profile = original.info.get("icc_profile")
        reduced = (
            box[0] * scale[0],
            box[1] * scale[1],
            min(box[2] * scale[0], original.size[0]),
            min(box[3] * scale[1], original.size[1]),
        )
        picture = picture.resize(target, Resampling.LANCZOS, reduced, reducing_gap=OVERSAMPLING)
    if upright is not None:
        picture = picture.transpose(upright)
    picture, profile = _in_mode(picture, profile, encoding)
    picture.info = {}
    held = io.BytesIO()
    options = dict(_OPTIONS.get(encoding.name, {}))
    if encoding.name in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = size.quality
    if profile is not None:
        options["icc_profile"] = profile
    picture.save(held, encoding.name, **options)
    return held.getvalue()


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"progressive": True},
    # Its threads would take the processors from the rest of the server.
    "AVIF": {"speed": 7, "max_threads": 1},
}
"""What the encoders are told beside the quality."""


def opened(source: BinaryIO, most: int) -> Image.Image:
    """Returns a picture that is not decoded yet, and is a context. Raises NotResizable if it is no picture or has more than *most*
    pixels, and any exception if it is damaged."""
    # Opening a WebP already takes memory for all its pixels, so the size is looked for without Pillow first.
    head = source.read(content.DESCRIBED)
    told = content.describe(head)
    # The directory of a TIFF may be at its end. Opening it takes no memory for its pixels.
    if told.width is None and head[:4] not in TIFF:
        raise NotResizable("The content is not a picture of which thumbnails are made.")
    check_pixels(told.width, told.height, most)
    source.seek(0)
    found = Image.open(source, formats=DECODED)
    check_pixels(*found.size, most)
    return found


def is_turned(orientation: int) -> bool:
    """Whether the width of a picture with this orientation in its EXIF data is its height when it is shown."""
    return 5 <= orientation <= 8


def _check_work(picture: Image.Image, source: BinaryIO, most: int) -> None:
    """Raises NotResizable if decoding a picture takes much more time or memory than its pixels do."""
    if isinstance(picture, TiffImageFile):
        check_pixels(picture.tag_v2.get(_TILE_WIDTH, 0), picture.tag_v2.get(_TILE_LENGTH, 0), most)
    elif isinstance(picture, JpegImageFile):
        position = source.tell()
        source.seek(0)
        whole = source.read()
        source.seek(position)
        # There are no more scans than such bytes, which are counted much faster than markers are followed.
        number = number_of_scans(whole) if whole.count(bytes((0xFF, _START_OF_SCAN))) > MAX_SCANS else 0
        if number > MAX_SCANS:
            raise NotResizable(f"The picture has {number} scans or more, which are more than {MAX_SCANS}.")


def number_of_scans(content: bytes) -> int:
    """Returns the number of scans of a JPEG, at most one more than MAX_SCANS. What is behind its end does not count, nor a preview in its
    metadata."""
    number = position = 0
    while number <= MAX_SCANS and (found := _MARKER.search(content, position)) is not None:
        position = found.end()
        marker = found[1][0]
        if marker == _END_OF_IMAGE:
            break
        number += marker == _START_OF_SCAN
        # The markers 1 and d8 have no length.
        if marker not in (0x01, 0xD8) and len(content) >= position + 2:
            position += struct.unpack_from(">H", content, position)[0]
    return number


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        # A picture with damaged EXIF data is shown as it is.
        return 1


def _stored_point(point: tuple[float, float], upright: Transpose | None) -> tuple[float, float]:
    """Returns where a point of an upright picture is in the picture as it is stored."""
    x, y = point
    if upright in (Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90):
        x, y = y, x
    if upright in (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.TRANSVERSE, Transpose.ROTATE_90):
        x = 1 - x
    if upright in (Transpose.FLIP_TOP_BOTTOM, Transpose.ROTATE_180, Transpose.TRANSVERSE, Transpose.ROTATE_270):
        y = 1 - y
    return x, y


def _geometry(
    full: tuple[int, int], width: int, height: int, focus: tuple[float, float] | None
) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float, float, float]]:
    """Returns the size of a thumbnail, the size that the whole picture would have at the same scale, and the part of the picture that the
    thumbnail shows. With *focus* the thumbnail is a crop around this point, which is nearer to its edge if the picture ends there."""
    if focus is None:
        scale = min(width / full[0], height / full[1])
        target = tuple(max(int(side * scale + 0.5), 1) for side in full)
        return (target[0], target[1]), (target[0], target[1]), (0.0, 0.0, float(full[0]), float(full[1]))
    scale = max(width / full[0], height / full[1])
    shown = min(width / scale, full[0]), min(height / scale, full[1])
    left, top = (
        min(max(part * whole - side / 2, 0.0), whole - side) for part, whole, side in zip(focus, full, shown, strict=True)
    )
    needed = (int(full[0] * scale) + 1, int(full[1] * scale) + 1)
    return (width, height), needed, (left, top, left + shown[0], top + shown[1])


def _smooth(picture: Image.Image) -> Image.Image:
    """Returns a picture in a mode whose colours can be mixed."""
    transparent = "transparency" in picture.info
    if picture.mode in ("P", "PA"):
        return picture.convert("RGBA" if transparent or picture.mode == "PA" else "RGB")
    if picture.mode in ("L", "RGB") and transparent:
        return picture.convert("LA" if picture.mode == "L" else "RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode.startswith("I"):
        # 16 bits of grey.
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return picture.convert("RGB")
    picture.load()
    return picture


def _in_mode(picture: Image.Image, profile: Any, encoding: Encoding) -> tuple[Image.Image, Any]:
    """Returns a picture in a mode that a format takes, and its colour profile, None if it is in sRGB or nothing is known."""
    grey, transparent = picture.mode in ("L", "LA"), picture.mode in ("LA", "RGBA")
    changed = picture.mode == "CMYK" or (grey and not {"L", "LA"} & set(encoding.modes))
    if changed or (profile is not None and not (encoding.profiled and len(profile) <= MAX_PROFILE)):
        picture, profile = _in_srgb(picture, profile), None
    if transparent and not encoding.transparent:
        white = Image.new("RGBA", picture.size, "white")
        return _without_grey_profile(picture, Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"), profile)
    if picture.mode in encoding.modes:
        return picture, profile
    return _without_grey_profile(picture, picture.convert("RGBA" if transparent else "RGB"), profile)


def _without_grey_profile(picture: Image.Image, converted: Image.Image, profile: Any) -> tuple[Image.Image, Any]:
    """Returns a picture that has been converted to RGB, and its profile, unless that is for grey."""
    return converted, None if picture.mode in ("L", "LA") else profile


def _in_srgb(picture: Image.Image, profile: Any) -> Image.Image:
    """Returns a picture in sRGB, by its colour profile if that can be used. Keeps transparency."""
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture if alpha is None else picture.convert(picture.mode[:-1])
    found = None
    if profile is not None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            found = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    shown = found or colours.convert("RGB")
    if alpha is not None:
        shown.putalpha(alpha)
    return shown
