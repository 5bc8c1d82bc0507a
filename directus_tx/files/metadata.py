"""Reads the metadata in a content: EXIF data of pictures and the number of pages of a PDF. `decoder` calls it in a process of its own."""

import io
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, BinaryIO

from PIL import ExifTags
from PIL.Image import Exif

from directus_tx.files import content
from directus_tx.files.encodings import ENCODINGS
from directus_tx.files.names import UNKNOWN
from directus_tx.files.resizing import NotResizable, is_turned, opened

MAX_TEXT = 200
"""The maximum length of a text, in characters."""

_BASE, _GPS = ExifTags.Base, ExifTags.GPS
_OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d", re.ASCII)


def read_metadata(source: BinaryIO, most: int) -> Mapping[str, Any]:
    """Returns the metadata in a content: its media type as `type`, and what of the following is known. Of a picture: `width` and
    `height` in pixels as it is shown, upright; `orientation` from 1 to 8, as EXIF counts; `taken_on`, ISO 8601, with the offset from UTC if
    the camera has told it; `camera`, `lens`; and `latitude`, `longitude` in degrees, `altitude` in metres. Of a PDF: `pages`.

    Raises NotResizable if a picture has more than *most* pixels or is damaged, and MemoryError.
    """
    kind = content.content_type(source.read(content.SNIFFED), UNKNOWN)
    source.seek(0)
    try:
        if kind == "application/pdf":
            return {"type": kind, "pages": _pages(source)}
        if kind in ENCODINGS:
            return {"type": kind, **_of_picture(source, most)}
        if kind in content.RASTER:
            told = content.describe(source.read(content.DESCRIBED))
            sides = {"width": told.width, "height": told.height}
            return {"type": kind, **{name: side for name, side in sides.items() if side is not None}}
    except (NotResizable, MemoryError):
        raise
    except Exception:
        # Parsers of hostile files may raise anything.
        raise NotResizable("The content is damaged.") from None
    return {"type": kind}


def _pages(source: BinaryIO) -> int:
    # It is large, and most processes never need it.
    from pypdf import PdfReader

    # From memory, because a damaged file is searched in small steps.
    return len(PdfReader(io.BytesIO(source.read())).pages)


def _of_picture(source: BinaryIO, most: int) -> Mapping[str, Any]:
    with opened(source, most) as picture:
        width, height = picture.size
        exif = picture.getexif()
        orientation = exif.get(_BASE.Orientation)
        found: dict[str, Any] = {"width": width, "height": height}
        if isinstance(orientation, int) and 1 <= orientation <= 8:
            found["orientation"] = orientation
            # Pillow has turned the size of a TIFF already.
            if is_turned(orientation) and picture.format != "TIFF":
                found |= {"width": height, "height": width}
        found |= _of_exif(exif)
        return found


def _of_exif(exif: Exif) -> Mapping[str, Any]:
    camera, place = _directory(exif, ExifTags.IFD.Exif), _directory(exif, ExifTags.IFD.GPSInfo)
    maker, model = _text(exif.get(_BASE.Make)), _text(exif.get(_BASE.Model))
    found = {
        "taken_on": _moment(camera.get(_BASE.DateTimeOriginal), camera.get(_BASE.OffsetTimeOriginal)),
        # Many models begin with the name of their maker.
        "camera": model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip(),
        "lens": _text(camera.get(_BASE.LensModel)),
        "latitude": _degrees(place.get(_GPS.GPSLatitude), place.get(_GPS.GPSLatitudeRef), "NS", 90),
        "longitude": _degrees(place.get(_GPS.GPSLongitude), place.get(_GPS.GPSLongitudeRef), "EW", 180),
        "altitude": _altitude(place.get(_GPS.GPSAltitude), place.get(_GPS.GPSAltitudeRef)),
    }
    if found["latitude"] is None or found["longitude"] is None:
        found["latitude"] = found["longitude"] = None
    return {name: value for name, value in found.items() if value not in (None, "")}


def _directory(exif: Exif, number: int) -> Mapping[int, Any]:
    """Returns a directory in EXIF data, empty if it is missing or damaged."""
    try:
        return exif.get_ifd(number)
    except Exception:
        # What is damaged is left out, and the rest is shown.
        return {}


def _text(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())[:MAX_TEXT]


def _moment(value: Any, offset: Any) -> str | None:
    try:
        # EXIF has the time of the camera's clock, which may be anywhere.
        found = datetime.strptime(_text(value), "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007
    except ValueError:
        return None
    text = _text(offset)
    return found + text if _OFFSET.fullmatch(text) else found


def _degrees(value: Any, direction: Any, directions: str, most: int) -> float | None:
    """Returns a latitude or longitude of degrees, minutes and seconds."""
    try:
        degrees, minutes, seconds = (float(each) for each in value)
        found = degrees + minutes / 60 + seconds / 3600
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    letter = _text(direction)[:1].upper()
    if letter not in directions or not letter or not 0 <= found <= most:
        return None
    return round(found if letter == directions[0] else -found, 6)


def _altitude(value: Any, reference: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not 0 <= found <= 100_000:
        return None
    return round(-found if reference in (1, b"\x01") else found, 1)
