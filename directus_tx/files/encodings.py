"""How thumbnails are encoded: by the type of the file, by the format that is asked for, or by what the client accepts."""

import re
from collections.abc import Iterator, Mapping

from attrs import frozen
from PIL import features

from directus_tx.schema.thumbnail_sizes import AUTO


@frozen
class Encoding:
    """How thumbnails are encoded: the name of the format for Pillow, its media type, the extension, and the modes of pictures that it
    takes. A picture in another mode is converted to RGB, or to RGBA if the format and the picture have transparency. `profiled`: the format
    has colour profiles."""

    name: str
    media_type: str
    extension: str
    modes: tuple[str, ...]
    transparent: bool = True
    profiled: bool = True


JPEG = Encoding("JPEG", "image/jpeg", ".jpg", ("L", "RGB"), transparent=False)
PNG = Encoding("PNG", "image/png", ".png", ("L", "LA", "RGB", "RGBA"))
WEBP = Encoding("WEBP", "image/webp", ".webp", ("RGB", "RGBA"))
AVIF = Encoding("AVIF", "image/avif", ".avif", ("L", "RGB", "RGBA"))
ENCODINGS: Mapping[str, Encoding] = {
    "image/jpeg": JPEG,
    "image/png": PNG,
    "image/gif": Encoding("GIF", "image/gif", ".gif", ("L", "RGB", "RGBA"), profiled=False),
    "image/webp": WEBP,
    "image/bmp": Encoding("BMP", "image/bmp", ".bmp", ("L", "RGB"), transparent=False, profiled=False),
    # Browsers do not show TIFF.
    "image/tiff": PNG,
}
"""How thumbnails are encoded, by the media type of the file."""

ENCODED: Mapping[str, Encoding] = {each.name: each for each in (*ENCODINGS.values(), AVIF)}
"""How thumbnails are encoded, by the name of the format for Pillow."""

ASKED: Mapping[str, Encoding] = {"jpg": JPEG, "png": PNG, "webp": WEBP, "avif": AVIF}
"""How thumbnails are encoded, by the format of a size."""

SMALL = (AVIF, WEBP)
"""The formats that clients get if they accept them and the format of a size is "auto", the smallest ones first. Both have transparency."""

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


class NotEncodable(Exception):
    """There are no thumbnails of a type, or none in a format. The message says why."""


def choose(media_type: str, format: str, accept: str) -> Encoding:
    """Returns how a thumbnail of a file with a media type is encoded. *format* is that of its size, and *accept* the header Accept of the
    client, which counts for "auto": AVIF or WebP if the header names these and gives them no lower q-value than the type of the
    file. That type is also what a client gets that accepts none of the three. Raises NotEncodable."""
    own = ENCODINGS.get(media_type)
    if own is None:
        raise NotEncodable(f'No thumbnails are made of files of the type "{media_type}".')
    if format == AUTO:
        weights = dict(_accepted(accept))
        of_own = next((weights[name] for name in (own.media_type, "image/*", "*/*") if name in weights), 0.0)
        named = [each for each in SMALL if weights.get(each.media_type, 0.0) > 0 and _is_available(each)]
        # The first of equal ones is taken.
        best = max(named, key=lambda each: weights[each.media_type], default=own)
        return best if best is own or weights[best.media_type] >= of_own else own
    found = ASKED.get(format, own)
    if not _is_available(found):
        raise NotEncodable(f"This server cannot make pictures in the format {found.name}.")
    return found


def _is_available(encoding: Encoding) -> bool:
    return encoding is not AVIF or bool(features.check("avif"))


def _accepted(accept: str) -> Iterator[tuple[str, float]]:
    """Yields the media types in a header Accept, with their q-values, from 0 to 1. Leaves out what is malformed."""
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        quality = 1.0
        for each in parameters:
            name, _, value = each.partition("=")
            if name.strip() == "q":
                quality = float(value.strip()) if _QUALITY.fullmatch(value.strip()) else -1.0
        if "/" in kind and quality >= 0:
            yield kind, quality
