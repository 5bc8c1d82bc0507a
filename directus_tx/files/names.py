"""The names of files: the names on disk that the API shows, titles, and media types by extension."""

import mimetypes
import re
import secrets
import string
import uuid
from collections.abc import Iterator

from directus_tx.errors import InvalidRequest

UNKNOWN = "application/octet-stream"
"""The media type of a file whose extension says nothing."""

MAX_LENGTH = 255
"""The maximum length of names on disk and for downloads, and of titles, in characters."""

MAX_EXTENSION = 20
HASH_LENGTH = 16
_ALPHANUMERIC = string.ascii_letters + string.digits

# The table of the standard library, without those of the operating system, which differ between machines.
_TYPES = mimetypes.MimeTypes(filenames=()).types_map[True] | {
    ".7z": "application/x-7z-compressed",
    ".aac": "audio/aac",
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".bz2": "application/x-bzip2",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".ico": "image/x-icon",
    ".jsonl": "application/jsonl",
    ".jxl": "image/jxl",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".psd": "image/vnd.adobe.photoshop",
    ".rar": "application/vnd.rar",
    ".rtf": "application/rtf",
    ".svgz": UNKNOWN,
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}


def base_name(name: str) -> str:
    """Returns the part of a name behind its directories. Raises InvalidRequest if it cannot be the name of a file."""
    found = re.split(r"[/\\]", name)[-1].strip()
    if found in ("", ".", "..") or "\0" in found:
        raise InvalidRequest("A file needs a name, which is not only dots and has no NUL.")
    return found


def extension(name: str) -> str:
    """Returns the extension of a name in lower case, with its dot: ".png". Empty if there is none that consists of letters and digits."""
    found = re.search(r"(?<=.)\.[A-Za-z0-9]+$", name)
    return found[0].lower() if found is not None and len(found[0]) <= MAX_EXTENSION else ""


def media_type(name: str) -> str:
    """Returns the media type that the extension of a name stands for."""
    return _TYPES.get(extension(name), UNKNOWN)


def title(name: str) -> str:
    """Returns the title of a file with this name: without the last extension, in lower case, with capitals at the beginnings of words."""
    stem, dot, _ = name.rpartition(".")
    words = re.sub(r"[_-]", " ", (stem if dot and stem else name).lower())
    return re.sub(r"(^|\s)(\S)", lambda found: found[1] + found[2].upper(), words)[:MAX_LENGTH]


def unique_name(name: str) -> str:
    """Returns a name on disk that no other file has, with the extension of *name*."""
    return f"{uuid.uuid4()}{extension(name)}"


def readable_names(name: str) -> Iterator[str]:
    """Yields names on disk that can be read, made of *name*: the first one, and others for the case that files have these already."""
    plain = re.sub(r"[^\w.^]+", "-", name, flags=re.ASCII).strip().lower()
    if plain.strip("-.") == "":
        plain = "file"
    stem, dot, last = plain.rpartition(".")
    stem, end = (stem, dot + last[:MAX_EXTENSION]) if dot and stem else (plain, "")
    stem = stem.lstrip(".")[: MAX_LENGTH - MAX_EXTENSION - 12] or "file"
    yield stem + end
    number = 0
    while True:
        number += 1
        yield f"{stem}-{number}{end}"


def private_hash() -> str:
    """Returns a new secret by which an asset is found: letters and digits."""
    return "".join([secrets.choice(_ALPHANUMERIC) for _ in range(HASH_LENGTH)])


def storage_name() -> str:
    """Returns the name under which the storage keeps the content of a file. Each content has its own, so a file gets new content in one
    step: with its row."""
    return f"originals/{uuid.uuid4().hex}"


def adopted_storage_name(filename_disk: str) -> str:
    """Returns the name of the content of a file whose content the server has not stored: of a row that comes from another installation."""
    return f"originals/{filename_disk}"
