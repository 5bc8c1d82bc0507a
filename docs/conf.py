"""Sphinx's configuration: `make docs` builds these pages as HTML in docs/_build."""

import inspect
import pathlib
import re
import sys
from typing import Any

from zope.interface.interface import InterfaceClass, Method

project = "directus_tx"
author = "the authors of directus_tx"
# The version of the package, without importing it.
_text = (pathlib.Path(__file__).parents[1] / "directus_tx" / "__init__.py").read_text(encoding="utf-8")
release = version = re.findall(r'__version__ = "([^"]+)"', _text)[0]

# docs/reference.rst takes the docstrings of what plugins import.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
extensions = ["sphinx.ext.autodoc"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"

root_doc = "index"
source_suffix = {".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_show_sourcelink = False
nitpicky = True

# Pygments reads JSON in quotes over several lines as an error.
suppress_warnings = ["misc.highlighting_failure"]


def add_members_of_interface(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Adds the methods and attributes of an interface to its docstring: autodoc finds none, as an interface of zope is no class."""
    if not isinstance(documented, InterfaceClass):
        return
    for member, about in documented.namesAndDescriptions(all=True):
        kind, arguments = ("method", about.getSignatureString()) if isinstance(about, Method) else ("attribute", "")
        lines += ["", f".. py:{kind}:: {member}{arguments}", ""]
        lines += [f"   {line}" for line in inspect.cleandoc(about.getDoc()).splitlines()]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", add_members_of_interface)
