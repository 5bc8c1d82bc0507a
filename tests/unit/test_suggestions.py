"""Suggestions of names, and the messages that have them."""

import pytest

from directus_tx.config import ConfigError, load
from directus_tx.http.params import parsed
from directus_tx.suggestions import MAX_LENGTH, MAX_NAMES, suggestion


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("titel", ["title", "id"], '; did you mean "title"?'),
        ("Title", ["TITLE"], '; did you mean "TITLE"?'),
        ("titel", ["x", "id"], "."),
        ("titel", [], "."),
        ("", ["title"], "."),
        ("x" * (MAX_LENGTH + 1), ["x" * MAX_LENGTH], "."),
        ("titel", ["title", *(f"n{number}" for number in range(MAX_NAMES))], "."),
    ],
)
def test_a_similar_name_is_suggested(name: str, known: list[str], meant: str) -> None:
    assert suggestion(name, known) == meant


@pytest.mark.parametrize(
    ("query", "meant"), [("limt=1", "limit"), ("Fields=x", "fields"), ("filtr[a]=1", "filter"), ("ofset=1", "offset")]
)
def test_misspelled_parameters_are_told(query: str, meant: str) -> None:
    (notice,) = parsed(query.encode()).notices
    assert meant in notice.message


def test_other_parameters_are_ignored() -> None:
    assert parsed(b"limit=1&_=123&nocache=1&utm_source=x&filter[a][eq]=1").notices == ()


def test_misspelled_settings_are_told(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="DIRECTUS_SERVER_LISTEN"):
        load(None, {"DIRECTUS_SERVER_LISTN": "tcp:80"})
