"""Tables that fit the width of a terminal."""

from __future__ import annotations

import pytest

from mmctl.report.console import Column, paper, print_table

SENTENCE = "Three convolutions of 32 channels for small images."


def printed(width: int, columns: list[Column]) -> list[str]:
    page, text = paper(width, 40, None)
    print_table(columns, page)
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize("width", [30, 44, 60, 120])
def test_sentences_stand_beside_or_below_their_row(width: int) -> None:
    names = Column("name", cells=["a-backbone-of-some-length", "b"])
    lines = printed(width, [names, Column("what it is for", prose=True, cells=[SENTENCE, "Another one."])])
    assert lines[0].split()[0] == "name"
    assert len([line for line in lines if line.startswith("name")]) == 1, "one line of titles"
    words = " ".join(" ".join(lines[1:]).split())
    assert max(map(len, lines)) <= width
    assert words.index("a-backbone") < words.index("Three") < words.index("b Another one.")
    for word in SENTENCE.split():
        assert word in words, word


def test_a_table_without_rows_prints_no_row() -> None:
    assert printed(60, [Column("name", cells=[]), Column("meaning", prose=True)]) == [""]
