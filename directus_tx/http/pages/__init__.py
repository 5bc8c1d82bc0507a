"""The pages for browsers: the start page of the server, the API reference of a project, whose viewer is Swagger UI, the console of GraphQL,
and the pages that links in mails lead to."""

import base64
import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from urllib.parse import quote

from attrs import frozen

VIEWER = "flask_swagger_ui"
"""The package that has the files of Swagger UI. It is the extra `reference`. Its Python code is not used."""

CONTENT_TYPES = {"css": "text/css; charset=utf-8", "html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8"}

START_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
REFERENCE_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)
"""The Content-Security-Policy of the pages. Swagger UI has style attributes and images in data URLs."""

OWN = frozenset({"reference.html", "reference.css", "reference.js"})
OF_VIEWER = frozenset({"swagger-ui.css", "swagger-ui-bundle.js"})


@frozen
class File:
    """A file of the API reference. `compressed` is its content compressed with gzip."""

    content_type: str
    content: bytes
    compressed: bytes


def reference_file(name: str) -> File | None:
    """Returns a file of the API reference; None if there is no such file or the viewer is not installed. The first call for each file
    blocks for a moment, so call it in a thread."""
    viewer = find_spec(VIEWER)
    if viewer is None or not viewer.submodule_search_locations or name not in OWN | OF_VIEWER:
        return None
    return _read(name, viewer.submodule_search_locations[0])


@cache
def _read(name: str, viewer: str) -> File:
    own = name in OWN
    content = files(__package__).joinpath(name).read_bytes() if own else (Path(viewer) / "dist" / name).read_bytes()
    return File(CONTENT_TYPES[name.rpartition(".")[2]], content, gzip.compress(content, mtime=0))


@frozen
class ScriptedPage:
    """A page with a script. `policy` is its Content-Security-Policy, which allows this script alone."""

    html: str
    policy: str


def _scripted(name: str, texts: Mapping[str, str]) -> ScriptedPage:
    """Returns a page and its script, which have the same name. *texts* are put into the page."""
    script = files(__package__).joinpath(f"{name}.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = Template(files(__package__).joinpath(f"{name}.html").read_text(encoding="utf-8"))
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    return ScriptedPage(template.substitute(texts, script=script), policy)


@cache
def graphql_console() -> ScriptedPage:
    """Returns the page to try GraphQL with."""
    return _scripted("graphql", {})


@cache
def password_page(*, invited: bool) -> ScriptedPage:
    """Returns the page that the link in a mail for a new password leads to, or that in an invitation if *invited*."""
    texts = {
        "title": "Accept the invitation" if invited else "Choose a new password",
        "send": "Accept" if invited else "Set the password",
        "done": "You can sign in now." if invited else "The password is set. You can sign in now.",
        "token_in": "path" if invited else "body",
    }
    return _scripted("password", texts)


@cache
def _start_template() -> Template:
    return Template(files(__package__).joinpath("start.html").read_text(encoding="utf-8"))


def start_page(projects: list[str]) -> str:
    """Returns the start page, with links for these projects."""
    rows = [
        f'<li><a href="./{quote(key)}/docs/">{escape(key)}</a> <a class="plain" href="./{quote(key)}/">/{escape(key)}/</a></li>'
        for key in projects
    ]
    shown = f"<ul>{''.join(rows)}</ul>" if rows else "<p>There are no public projects.</p>"
    return _start_template().substitute(projects=shown)
