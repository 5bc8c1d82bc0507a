"""The headers of the tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload), of requests and answers."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from directus_tx.errors import BadRequest, InvalidRequest, PayloadTooLarge, UnsupportedMediaType, UnsupportedVersion
from directus_tx.files.resumable import Hash
from directus_tx.http.form_stream import with_lists
from directus_tx.http.params import nested, refuse_nul

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,expiration,checksum"
ALGORITHMS = ("sha1", "md5", "sha256", "sha512")
MEDIA_TYPE = "application/offset+octet-stream"
"""The media type of the bytes of an upload."""

SENT = (
    "Tus-Resumable,Upload-Length,Upload-Defer-Length,Upload-Metadata,Upload-Offset,Upload-Checksum,X-Requested-With,X-Request-ID"
)
READ = (
    "Tus-Resumable,Tus-Version,Tus-Extension,Tus-Max-Size,Tus-Checksum-Algorithm,Upload-Offset,Upload-Length,Upload-Defer-Length,"
    "Upload-Metadata,Upload-Expires,Content-Location,X-Directus-File"
)
"""The headers that a page may send (SENT) or read (READ), besides those of other routes."""

MAX_SIZE = 2**63 - 1
NAMES = ("filename", "name")
"""The keys in Upload-Metadata that give the name of the file. The first one that is there counts."""

IGNORED = frozenset({"filetype", "type", "relativePath", *NAMES})
"""Keys in Upload-Metadata that clients send, but that are no fields of a file. The content says what type the file has."""

_PATH = re.compile(rb"/[^/]+/files/tus(/[^/]*)?")
_NUMBER = re.compile(r"[0-9]{1,19}")
_KEY = re.compile(r"[!-+\--~]+")
_PAIR = re.compile(r"\s*(?P<key>[^\s,]*)(?:[ \t]+(?P<value>[^\s,]*))?\s*", re.ASCII)


def is_path(path: bytes) -> bool:
    """Whether a path, without its query string, is one of the protocol."""
    return b"/files/tus" in path and _PATH.fullmatch(path) is not None


def options(max_size: int) -> Mapping[str, str]:
    """Returns the headers of the answer to OPTIONS. *max_size* is that of files, in bytes."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def check_version(request: Any) -> None:
    """Raises UnsupportedVersion if a request does not name the version of the protocol."""
    if request.getHeader("tus-resumable") != VERSION:
        text = f'The request needs the header "Tus-Resumable: {VERSION}": the server supports this version of the tus protocol.'
        raise UnsupportedVersion(text, headers={"Tus-Version": VERSION})


def check_media_type(request: Any) -> None:
    """Raises UnsupportedMediaType if the body of a request does not have the media type of bytes."""
    if (request.getHeader("content-type") or "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise UnsupportedMediaType(f"The Content-Type of the body must be {MEDIA_TYPE}.")


def number(request: Any, name: str) -> int | None:
    """Returns the number in a header, None if there is no such header. Raises BadRequest."""
    text = request.getHeader(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()) or int(text) > MAX_SIZE:
        raise BadRequest(f"{name} must be a whole number that is not negative.")
    return int(text)


def length(request: Any, max_size: int) -> int | None:
    """Returns the number in Upload-Length, None without it. Raises BadRequest, PayloadTooLarge, and InvalidRequest for 0."""
    found = number(request, "Upload-Length")
    if found is not None and found > max_size:
        raise PayloadTooLarge(f"A file may have up to {max_size} bytes (files.max_size).")
    if found == 0:
        raise InvalidRequest("The file is empty.")
    return found


def new_length(request: Any, max_size: int) -> int | None:
    """Returns the size of a new upload, None if the client tells it later (Upload-Defer-Length). Raises the errors of `length`."""
    found, deferred = length(request, max_size), request.getHeader("upload-defer-length")
    if deferred not in (None, "1"):
        raise BadRequest("Upload-Defer-Length must be 1.")
    if (found is None) == (deferred is None):
        raise BadRequest("A new upload needs either Upload-Length or Upload-Defer-Length.")
    return found


def checksum(request: Any) -> tuple[Hash, bytes] | None:
    """Returns the hash and the expected digest of the header Upload-Checksum, None without it. Raises BadRequest."""
    text = request.getHeader("upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"Upload-Checksum must begin with one of {', '.join(ALGORITHMS)}.")
    return hashlib.new(algorithm, usedforsecurity=False), _decoded("Upload-Checksum", value.strip())


def metadata(text: str) -> Mapping[str, str]:
    """Returns what a header Upload-Metadata says: texts by their keys. Raises BadRequest."""
    found: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        parts = _PAIR.fullmatch(pair)
        if parts is None or not _KEY.fullmatch(parts["key"]):
            raise BadRequest('Upload-Metadata must have the form "key base64,key base64".')
        if parts["key"] in found:
            raise BadRequest(f'Upload-Metadata has the key "{parts["key"]}" twice.')
        try:
            found[parts["key"]] = _decoded("Upload-Metadata", parts["value"] or "").decode()
        except UnicodeDecodeError:
            raise BadRequest("Upload-Metadata must be UTF-8, in base64.") from None
    return found


def attributes(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Returns the attributes of a file that the metadata of an upload gives, like those of a multipart form: fields of the file, and its
    name as `filename_disk` and `filename_download`. Raises InvalidRequest."""
    pairs = [(key, value) for key, value in metadata.items() if key not in IGNORED]
    filename = next((metadata[key] for key in NAMES if metadata.get(key)), "")
    if not filename and "filename_disk" not in metadata:
        raise InvalidRequest('"filename" is required in Upload-Metadata.')
    refuse_nul([*pairs, ("filename", filename)])
    fields = {name: with_lists(value) for name, value in nested(pairs).items() if name != "data"}
    payload = {"filename_download": filename, **fields} if filename else fields
    payload.setdefault("filename_disk", filename)
    return payload


def _decoded(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{name} has a value that is not base64.") from None
