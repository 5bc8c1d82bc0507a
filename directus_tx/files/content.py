"""What the content of a file tells: its media type, its character set, and the pictures' size and IPTC data."""

import io
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import imagesize  # type: ignore[import-untyped]
import puremagic
from PIL import IptcImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from directus_tx.files.names import UNKNOWN
from directus_tx.files.pictures import NO_PICTURE, Picture

SNIFFED = 8 * 1024
"""The number of bytes at the beginning of a file by which its type is recognised."""

DESCRIBED = 4 * 2**20
"""The number of bytes at the beginning of a picture in which its size and its IPTC data are looked for."""

MAX_SIDE = 2**31 - 1

_TEXTUAL = re.compile(
    r"text/.*|.*\+(xml|json)|application/(json|jsonl|xml|javascript|yaml|toml|sql|x-sh|x-csh|x-tex|rtf|x-httpd-php)"
)
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|script|iframe|title|table|a|div|h1|p|br|b|style)[\s>/]", re.I)
_SVG = re.compile(rb"(<!doctype\s+svg[^>]*>\s*)?<svg[\s>/]", re.I)

# Types that are another type inside, which is recognised first.
_CONTAINED = {
    "application/zip": re.compile(
        r"application/(vnd\.(openxmlformats|oasis\.opendocument|ms-\w+|android)[\w.+-]*|epub\+zip|java-archive|zip|x-zip-compressed)"
    ),
    "application/x-ole-storage": re.compile(r"application/(msword|vnd\.ms-[\w.-]+|vnd\.visio|x-msi)"),
}

_SIGNATURES: Sequence[tuple[bytes, str]] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\1\0", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"{\\rtf", "application/rtf"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"%!PS", "application/postscript"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ", "application/x-msdownload"),
    (b"#!", "text/x-shellscript"),
)
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif"}
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/x-wav", b"AVI ": "video/x-msvideo"}
_ALIASES = {
    "image/x-ms-bmp": "image/bmp",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "audio/wav": "audio/x-wav",
    "audio/wave": "audio/x-wav",
    "audio/vnd.wave": "audio/x-wav",
    "audio/mp3": "audio/mpeg",
    "image/vnd.microsoft.icon": "image/x-icon",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "application/x-javascript": "application/javascript",
    "text/javascript": "application/javascript",
    "text/xml": "application/xml",
}


def is_text(head: bytes) -> bool:
    """Whether the beginning of a file is text: without the control characters that texts do not have."""
    return not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)


def charset(head: bytes) -> str:
    """Returns the name of the character set of a file, by its beginning: "binary" if it is no text."""
    if not is_text(head):
        return "binary"
    try:
        head.decode("ascii")
        return "us-ascii"
    except UnicodeDecodeError:
        pass
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut.
        return "utf-8" if error.start > len(head) - 4 and error.reason == "unexpected end of data" else "unknown-8bit"
    return "utf-8"


def content_type(head: bytes, declared: str) -> str:
    """Returns the media type of the content that begins with *head*. *declared*, the type by the extension of the file, is only believed
    where the content cannot tell: among texts, and among the formats in a zip file."""
    found = _recognised(head)
    if found in _CONTAINED:
        return declared if _CONTAINED[found].fullmatch(declared) else found
    if found is not None:
        return found
    if is_text(head):
        return declared if _TEXTUAL.fullmatch(declared) and declared not in ("text/html", "image/svg+xml") else "text/plain"
    return UNKNOWN


def _recognised(head: bytes) -> str | None:
    head = head[:SNIFFED]
    plain = head.removeprefix(b"\xef\xbb\xbf")
    if is_text(plain):
        markup, declared = _markup(plain)
        if _SVG.match(markup):
            return "image/svg+xml"
        if _HTML.match(markup):
            return "text/html"
        if declared:
            return "application/xml"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(
            head[8:12], "video/quicktime" if head[8:10] == b"qt" else "audio/mp4" if head[8:11] == b"M4A" else "video/mp4"
        )
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if is_text(plain):
        return None
    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return None
    return next((_alias(each.mime_type) for each in matches if each.mime_type), None)


def _markup(text: bytes) -> tuple[bytes, bool]:
    """Returns a text without the comments and the XML declaration at its beginning, and whether it has that declaration."""
    declared = False
    while True:
        text = text.lstrip()
        if text[:4] == b"<!--":
            _, _, text = text.partition(b"-->")
        elif text[:5].lower() == b"<?xml":
            declared = True
            _, _, text = text.partition(b"?>")
        else:
            return text, declared


def _alias(kind: str) -> str:
    return _ALIASES.get(kind, kind)


def types_in(text: str) -> tuple[str, ...]:
    """Returns the media types of the setting file_mimetype_whitelist: "image/png,text/*", or a JSON list. Empty: all are allowed."""
    return tuple(_alias(each) for part in text.split(",") if (each := part.strip(' "[]\t\r\n').lower()))


def is_allowed(kind: str, allowed: Sequence[str]) -> bool:
    """Whether a media type is among the allowed ones, of which "image/*" stands for all images. Everything is allowed if there are none."""
    kind = _alias(kind)
    return not allowed or any(
        each in ("*", "*/*", kind) or (each.endswith("/*") and kind.startswith(each[:-1])) for each in allowed
    )


RASTER = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif", "image/x-icon", "image/heic"}
)
"""The media types of pictures whose size is recognised."""


def directory_of(head: bytes) -> int | None:
    """Returns where the directory of a TIFF is, which has its size, if it is not in *head*, the beginning of the file. Programs that write
    a picture before they know its size put it at the end."""
    if head[:4] not in _TIFF_ORDERS or len(head) < 8:
        return None
    (place,) = struct.unpack_from(f"{_TIFF_ORDERS[head[:4]]}I", head, 4)
    return place if place + DIRECTORY > len(head) else None


_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
DIRECTORY = 4096
"""The number of bytes of the directory of a TIFF in which its size is looked for: it has 12 bytes for each of its entries, in order."""


def describe_directory(head: bytes, directory: bytes) -> Picture:
    """Returns the size of a TIFF that begins with *head* and whose directory begins with *directory*. Raises nothing."""
    width, height = _size(head[:4] + struct.pack(f"{_TIFF_ORDERS[head[:4]]}I", 8) + directory[:DIRECTORY])
    return Picture(width, height)


def describe(head: bytes) -> Picture:
    """Returns what the beginning of a picture tells: its size, and the IPTC data of JPEG and TIFF. Reads headers only and unpacks nothing,
    so a small file that stands for a large picture costs nothing. Takes some milliseconds: call it in a thread. Raises nothing."""
    kind = _recognised(head)
    if kind not in RASTER:
        return NO_PICTURE
    width, height = _size(head)
    data = _iptc(head) if kind in ("image/jpeg", "image/tiff") else {}
    return Picture(
        width,
        height,
        _first(data, (2, 120)),
        ", ".join(filter(None, (_first(data, key) for key in ((2, 90), (2, 95), (2, 101)))))[:200],
        tuple(dict.fromkeys(filter(None, (_text(each) for each in _values(data, (2, 25)))))),
    )


def _size(head: bytes) -> tuple[int | None, int | None]:
    try:
        width, height = imagesize.get(io.BytesIO(head), exif_rotation=False)
    except Exception:
        # Parsers of hostile files may raise anything.
        return None, None
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return None, None
    return int(width), int(height)


def _iptc(head: bytes) -> Mapping[tuple[int, int], Any]:
    try:
        # The classes are used without Image.open, which refuses large pictures: nothing is unpacked here.
        found = (JpegImageFile if head[:1] == b"\xff" else TiffImageFile)(io.BytesIO(head))
        return IptcImagePlugin.getiptcinfo(found) or {}
    except Exception:
        # As above. A picture without readable IPTC data has none.
        return {}


def _values(data: Mapping[tuple[int, int], Any], key: tuple[int, int]) -> Sequence[bytes]:
    found = data.get(key, ())
    return found if isinstance(found, (list, tuple)) else (found,)


def _first(data: Mapping[tuple[int, int], Any], key: tuple[int, int]) -> str:
    return next((_text(each) for each in _values(data, key)), "")


def _text(value: bytes) -> str:
    """Returns a text of IPTC data, which is UTF-8 or Latin-1, without NUL, which PostgreSQL cannot store."""
    try:
        found = value.decode("utf-8")
    except UnicodeDecodeError:
        found = value.decode("latin-1")
    return found.replace("\0", "").strip()
