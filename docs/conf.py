"""Sphinx's configuration: `make docs` builds these pages as HTML in docs/_build."""

import pathlib
import re
import sys

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
