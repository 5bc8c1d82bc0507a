"""The headers with which contents are sent, so that browsers show what is harmless and run nothing."""

import re
from collections.abc import Mapping
from urllib.parse import quote

from directus_tx.files.contents import Original
from directus_tx.files.names import UNKNOWN

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*")
_SHOWN = re.compile(
    r"image/(?!svg)[\w.+-]+|audio/[\w.+-]+|video/[\w.+-]+|text/(plain|csv|markdown|vtt|css)|application/(pdf|json)"
)
"""The types that browsers show or play without running anything."""

_SCRIPT = re.compile(r"(text|application)/(x-)?(javascript|ecmascript)|text/(javascript1\.\d|jscript|livescript)", re.I)
"""The types with which browsers run what a script element, a worker or a service worker names, as the MIME Sniffing Standard lists them."""

SVG = "image/svg+xml"

SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The Content-Security-Policy of contents: a browser that opens one runs no script in it and loads nothing for it."""

PDF_POLICY = "default-src 'none'; frame-ancestors 'self'"
"""The Content-Security-Policy of PDF. The viewers of browsers need scripts, so it has no sandbox."""


def content_type(original: Original) -> str:
    """Returns the value of the header Content-Type. Scripts are plain text: pages of the same origin, such as the admin app, would run
    them otherwise, also those whose Content-Security-Policy allows scripts of their own origin only."""
    kind = original.type if _TYPE.fullmatch(original.type) else UNKNOWN
    if _SCRIPT.fullmatch(kind):
        kind = "text/plain"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") and original.charset in ("utf-8", "us-ascii") else kind


def headers(original: Original) -> Mapping[str, str]:
    """Returns the headers that say what a browser does with a content. SVG is shown as a picture, but not run; HTML, XML and what is
    unknown is downloaded. Pages of the same origin may show a content in a frame."""
    kind = content_type(original).partition(";")[0]
    policy = PDF_POLICY if kind == "application/pdf" else SANDBOX
    return {"Content-Disposition": content_disposition(original), "Content-Security-Policy": policy}


def content_disposition(original: Original) -> str:
    """Returns the value of the header Content-Disposition of a content."""
    kind = content_type(original).partition(";")[0]
    inline = not original.attachment and (_SHOWN.fullmatch(kind) is not None or kind == SVG)
    return disposition("inline" if inline else "attachment", original.filename_download)


def needs_policy(original: Original) -> bool:
    """Whether a content is only harmless with a Content-Security-Policy, so that no other server may send it: SVG that is shown."""
    return content_type(original).partition(";")[0] == SVG and not original.attachment


def disposition(kind: str, name: str) -> str:
    """Returns the value of the header Content-Disposition (RFC 6266) with the name for a download."""
    plain = re.sub(r"[\x00-\x1f\x7f]", "", name).strip() or "file"
    fallback = re.sub(r'[^\x20-\x7e]|["\\%]', "_", plain)
    if fallback == plain:
        return f'{kind}; filename="{plain}"'
    return f"{kind}; filename=\"{fallback}\"; filename*=UTF-8''{quote(plain, safe='')}"
