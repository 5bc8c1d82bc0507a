"""The headers that answers have for browsers, as bytes, so that no answer makes them anew."""

from typing import Final

COMMON: Final = b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin"
"""Headers of every answer: browsers take it for nothing but its media type, and tell other servers nothing of its address, which may have a
token in it. An answer with a Referrer-Policy of its own has both; the last one counts."""

DENIED: Final = COMMON + b"\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nX-Frame-Options: DENY"
"""Headers of every answer without a Content-Security-Policy of its own: if a browser shows it as a page, that loads and runs nothing."""

FRAMED: Final = COMMON + b"\r\nX-Frame-Options: SAMEORIGIN"
"""Headers of every other answer. Browsers that know frame-ancestors, which the policies name, ignore X-Frame-Options."""
