"""The documents on security: the tests that they name are there, and no requirement of the standard is left out."""

import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "docs").glob("*.rst"))
ASVS = ROOT / "docs" / "asvs.rst"

# OWASP ASVS 4.0.3: the sections of the chapters on authentication and sessions, with the number of their requirements.
SECTIONS = {
    "V2": (12, 7, 3, 5, 7, 3, 6, 7, 3, 4),
    "V3": (1, 4, 4, 5, 3, 2, 1),
}
STATES = {"met", "configured", "partly", "not met", "not ours"}
SHOWN = {"met", "configured", "partly"}
"""States that tests show, unless there is nothing to be tested."""

WITHOUT_TEST = frozenset("V2.1.10 V2.2.4 V2.5.2 V2.7.1".split())
"""Requirements that are met because the server does not have what they forbid, or because another program does it."""


def named(text: str) -> Iterator[tuple[str, str]]:
    """Yields the path and the name of each test in a document; the name is empty where a whole file or directory is named."""
    yield from re.findall(r"``(tests/[\w/.]+?)(?:::(\w+))?``", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_tests_that_documents_name_exist(document: pathlib.Path) -> None:
    for path, name in named(document.read_text()):
        file = ROOT / path
        assert file.exists(), path
        assert not name or re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE), f"{path}::{name}"


def rows() -> list[tuple[str, str, str, str]]:
    """The rows of the table: number, requirement, state, and how it is met or why not."""
    found = []
    for number, cells in re.findall(r"^   \* - (V[\d.]+)\n((?:     .+\n)+)", ASVS.read_text(), re.MULTILINE):
        asked, state, how = (" ".join(cell.split()) for cell in re.split(r"^     - ", cells, flags=re.MULTILINE)[1:])
        found.append((number, asked, state, how))
    return found


def test_every_requirement_of_the_standard_is_in_the_table_once() -> None:
    expected = [
        f"{chapter}.{section}.{number}"
        for chapter, counts in SECTIONS.items()
        for section, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]
    assert [number for number, *_ in rows()] == expected


def test_every_requirement_has_a_state_and_what_is_met_has_a_test() -> None:
    for number, asked, state, how in rows():
        assert state in STATES, number
        assert asked, number
        assert how, number
        if state in SHOWN and number not in WITHOUT_TEST:
            assert any(name for _, name in named(how)), number
