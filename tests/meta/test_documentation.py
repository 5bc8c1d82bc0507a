"""What is documented is what is there: settings, error codes, hooks, routes and commands, and pages that are well formed."""

import ast
import inspect
import io
import pathlib
import re
import subprocess
import sys
import tomllib

import docutils.core
import docutils.nodes
import pytest
from attrs import fields

from directus_tx import config, errors
from directus_tx.cli.main import directus
from directus_tx.db import sqlstate
from directus_tx.http.endpoints import all_routes
from directus_tx.http.routes import Caller
from directus_tx.plugins import hookspecs, registrations
from tests.meta.test_house import ROOT, modules
from tests.plugged import examples


def test_the_sample_configuration_has_every_setting_with_its_default() -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", (ROOT / "etc" / "directus.toml").read_text(), flags=re.MULTILINE)
    table = tomllib.loads(text)
    assert table.pop("super_admin_token") == ""
    for section, cls in config.SECTIONS.items():
        defaults = {each.name: list(each.default) if isinstance(each.default, tuple) else each.default for each in fields(cls)}
        assert table.pop(section) == defaults
    assert table == {}


def test_the_sample_configuration_describes_every_setting() -> None:
    words = " ".join((ROOT / "etc" / "directus.toml").read_text().replace("\n#", " ").split())
    settings = [fields(config.Settings).super_admin_token, *(each for cls in config.SECTIONS.values() for each in fields(cls))]
    assert [each.name for each in settings if each.metadata["about"] not in words] == []


def test_every_error_code_is_documented() -> None:
    text = (ROOT / "docs" / "running.rst").read_text()
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.ApiError) and each is not errors.ApiError:
            line = f"{each.code:<5}  {each.status:<6}  {(each.__doc__ or '').splitlines()[0]}"
            assert line in text, f"docs/running.rst lacks: {line}"


def test_every_meaning_of_a_sqlstate_is_documented() -> None:
    text = (ROOT / "docs" / "database.rst").read_text().partition(".. sqlstates")[2]
    found = re.findall(r"^(\w{2,5}) +(\d{3}) +(\d+) +(\S.*)$", text, re.MULTILINE)
    wanted = []
    for state, meaning in sqlstate.MEANINGS.items():
        failure = issubclass(meaning.error, errors.InternalError)
        if not failure or not issubclass(sqlstate.MEANINGS[state[:2]].error, errors.InternalError):
            wanted.append((state, str(meaning.error.status), str(meaning.error.code), meaning.error(meaning.message).message))
    assert found == wanted


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst"), *ROOT.glob("news/*.rst")], ids=lambda path: path.name
)
def test_documents_are_well_formed(path: pathlib.Path) -> None:
    """Tables, headings, blocks and links, as docutils reads them; Sphinx's own directives stand in the index and the reference alone."""
    text = path.read_text().replace(".. toctree::", ".. container::").replace("   :maxdepth: 2\n", "")
    if path.name == "reference.rst":
        text = re.sub(r"^\.\. auto\w+:: .*\n(?:   .*\n)*", "", text, flags=re.MULTILINE)
    said = io.StringIO()
    options = {"warning_stream": said, "report_level": 2, "halt_level": 5, "syntax_highlight": "none"}
    document = docutils.core.publish_doctree(text, source_path=str(path), settings_overrides=options)
    assert said.getvalue() == ""
    # A heading without an empty line above it is part of the paragraph there, which docutils says nothing about.
    paragraphs = [paragraph.astext() for paragraph in document.findall(docutils.nodes.paragraph)]
    assert [each for each in paragraphs if re.search(r"^([-=~])\1+$", each, re.MULTILINE)] == []


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    text = (ROOT / "docs" / "index.rst").read_text()
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "docs").glob("*.rst") if path.stem != "index")


def test_the_page_about_the_command_shows_every_command() -> None:
    text = (ROOT / "docs" / "running.rst").read_text()
    assert set(directus.commands) - set(re.findall(r"^    directus ([a-z]+)", text, re.MULTILINE)) == set()


def test_the_modules_that_the_reference_names_can_be_imported() -> None:
    """Sphinx imports the modules that the page names."""
    text = (ROOT / "docs" / "reference.rst").read_text()
    named = re.findall(
        r"^\.\. auto(?:module|class|exception):: (directus_tx[a-z_.]+?)(?:\.[A-Z]\w*)?(?:\(\))?$", text, re.MULTILINE
    )
    assert len(named) == 29
    subprocess.run([sys.executable, "-c", f"import {', '.join(named)}"], cwd=ROOT, timeout=60, check=True)


def test_the_docstrings_that_the_reference_shows_are_well_formed() -> None:
    """As docutils reads them: Sphinx puts them into the page."""
    text = (ROOT / "docs" / "reference.rst").read_text()
    named = re.findall(r"^\.\. auto\w+:: directus_tx\.([\w.]+)", text, re.MULTILINE)
    known, faults, seen = modules(), {}, 0
    for name in named:
        module, _, member = (name, "", "") if name in known else name.rpartition(".")
        (tree,) = [known[module]] if not member else [each for each in known[module].body if getattr(each, "name", "") == member]
        for node in ast.walk(tree):
            if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            said = io.StringIO()
            options = {"warning_stream": said, "report_level": 2, "halt_level": 5}
            docutils.core.publish_doctree(ast.get_docstring(node) or "", settings_overrides=options)
            seen += 1
            if said.getvalue():
                faults[f"{name}: {getattr(node, 'name', '')}"] = said.getvalue()
    assert faults == {}
    assert seen > 100


def test_every_hook_is_documented_with_its_arguments() -> None:
    text = (ROOT / "docs" / "hooks.rst").read_text()
    kinds = ("filter", "action before", "action after")
    found = dict(re.findall(rf"^``(\w+)`` \((?:{'|'.join(kinds)}): (.*)\)$", text, re.MULTILINE))
    shown = {name: re.findall(r"``(\w+)``", arguments) for name, arguments in found.items()}
    specified = {name: each for name, each in vars(hookspecs).items() if hasattr(each, f"{hookspecs.PROJECT}_spec")}
    assert shown == {name: list(inspect.signature(each).parameters) for name, each in specified.items()}
    assert [name for name, each in specified.items() if not each.__doc__] == []


def test_every_registering_hook_is_documented() -> None:
    text = (ROOT / "docs" / "registering.rst").read_text()
    hooks = [name for name, each in vars(registrations).items() if hasattr(each, f"{hookspecs.PROJECT}_spec")]
    assert [name for name in hooks if f"``{name}``" not in text] == []
    assert list(examples()) == hooks


def test_every_route_is_documented_with_its_caller() -> None:
    lines = (ROOT / "docs" / "routes.rst").read_text().splitlines()
    documented = [re.split(r"\s{2,}", line.strip()) for line in lines if re.match(r"(GET|HEAD|POST|PUT|PATCH|DELETE) ", line)]
    assert documented == [[route.method, route.path, route.caller.value, route.about.summary] for route in all_routes()]
    text = "\n".join(lines)
    assert [each.value for each in Caller if f"\n{each.value}\n    " not in text] == []
