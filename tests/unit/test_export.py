"""Cells of CSV: no text is a formula to a spreadsheet, and what it was can be told."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.items.export import FORMULA, escaped

BLANKS = " \t\r\n\v\f\x00\x1f\xa0\u200b\ufeff\u2060\u00ad\u3000\"'`’“"
TEXTS = st.text() | st.text("=+-@＝＋－＠﹣a1,;'\"\t\r\n \u200b\ufeff", max_size=8)


def formula(cell: str) -> bool:
    """Whether a spreadsheet that leaves out what is invisible would see a formula; an apostrophe in front says that it is text."""
    if cell[:1] == "'":
        return False
    rest = "".join(c for c in cell if not (c.isspace() or unicodedata.category(c) in ("Cc", "Cf") or c in BLANKS))
    return cell[:1] in tuple("\t\r\n") or unicodedata.normalize("NFKC", rest[:1]) in tuple("=+-@")


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "=cmd|' /C calc'!A0",
        "\t=1",
        "\rx",
        "\nx",
        "\tx",
        " =1",
        "\u00a0=1",
        "\u200b=1",
        "\ufeff=1",
        '"=1',
        "'=1",
        "''=1",
        "'\tx",
        " \"' =1",
        "“=1",
        "＝1",
        "＋1",
        "－1",
        "＠A1",
        "﹣1",
        "\x00=1",
        "-",
        "+49 30 1234",
    ],
)
def test_what_may_be_a_formula_gets_an_apostrophe(text: str) -> None:
    assert escaped(text) == "'" + text


@pytest.mark.parametrize(
    "text", ["", "a=1", "1-1", "a@b.example", "'a'", '"a"', " a", "#=", "(=1)", "2020-01-01", "x\n=1", "é", "'", "[-1]"]
)
def test_other_texts_are_left_as_they_are(text: str) -> None:
    assert escaped(text) == text


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_no_cell_is_a_formula_and_each_text_is_found_again(texts: list[str]) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([escaped(text) for text in texts])
    (cells,) = csv.reader(io.StringIO(out.getvalue(), newline="")) if texts != [""] else ([""],)
    assert not any(formula(cell) for cell in cells)
    assert [cell[1:] if cell[:1] == "'" and FORMULA.match(cell[1:]) else cell for cell in cells] == texts
