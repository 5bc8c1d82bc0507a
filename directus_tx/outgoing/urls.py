"""The URLs of outgoing requests."""

from hyperlink import URL, URLParseError

from directus_tx.outgoing.failures import Refused


def check_url(url: str) -> str:
    """Returns a URL as it is requested, in ASCII and without its fragment. Raises Refused if it is not an http or https URL with a host,
    or has a user name or a password, which would be sent in plain text and logged by others."""
    try:
        parsed = URL.from_text(url.strip())
        # hyperlink takes an IPv6 address for a name to be encoded.
        parsed = parsed.replace(host="host").to_uri().replace(host=parsed.host) if ":" in parsed.host else parsed.to_uri()
    except (URLParseError, ValueError, UnicodeError) as error:
        raise Refused(f"The URL cannot be used: {error}.") from None
    if parsed.scheme not in ("http", "https"):
        raise Refused("The URL must begin with http:// or https://.")
    if not parsed.host:
        raise Refused("The URL has no host.")
    if parsed.userinfo:
        raise Refused("The URL must not have a user name or a password.")
    if parsed.port is None or not 0 < parsed.port < 65536:
        raise Refused("The port of the URL must be between 1 and 65535.")
    text: str = parsed.replace(fragment="").to_text()
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise Refused("The URL has characters that must be percent-encoded.")
    return text


def origin_of(url: str) -> str:
    """Returns the scheme, host and port of a URL, for example "https://example.com:443". Raises Refused as `check_url` does."""
    parsed = URL.from_text(check_url(url))
    host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host.lower()
    return f"{parsed.scheme}://{host}:{parsed.port}"


class EncodedUrl(URL):
    """A URL that `check_url` has encoded already."""

    def to_uri(self) -> "EncodedUrl":
        return self
