"""TOML that users write: its limits, the line of each key, and values written back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmctl.errors import RecipeError
from mmctl.recipe.toml_source import parse_toml, scan
from mmctl.text import literal, short_literal


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a = 1 #" + b"x" * 3000, ":1: line is longer than 2048 bytes"),
        (b"a = 1\n" * 20000, "is larger than 64 KiB"),
        (b"x = '\xff'", ":1: is not UTF-8 text"),
        (b"a = " + b"[\n" * 5000, "cannot be read as TOML"),
        (b"a = {b={c={d={e={f={g={h={i={j=1}}}}}}}}}", "is nested more than 8 levels deep"),
        (b"".join(b"k%d = 1\n" % n for n in range(501)), "has more than 500 keys"),
        (b"a = " + b"9" * 2000, "more than 64 bits"),
        (b"a = \x00", ":1: is not valid TOML"),
        (b"a = '\x1b[2J", ":1: is not valid TOML"),
    ],
)
def test_limits(raw: bytes, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_toml(raw, "r.toml")
    assert said in str(error.value)
    assert "\x1b" not in str(error.value)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_toml(b"\xef\xbb\xbfseed = 1\r\n[train]\r\nsteps = 2\r\n", "r").data == {
        "seed": 1,
        "train": {"steps": 2},
    }


def test_each_key_has_its_line() -> None:
    text = '''\
# seed = 1
seed = 2
note = """
[fake]
steps = 3
"""
a.b.c = 1   # "
list = [
  "x",  # [y]
  "[z]",
]
[ loss . "odd name" ]  # '
'quoted' = '# no'
text = \'\'\'one line\'\'\'
[train]
steps = 3
'''
    tomllib.loads(text)
    assert dict(scan(text)) == {
        ("seed",): 2,
        ("note",): 3,
        ("a",): 7,
        ("a", "b"): 7,
        ("a", "b", "c"): 7,
        ("list",): 8,
        ("loss", "odd name"): 12,
        ("loss", "odd name", "quoted"): 13,
        ("loss", "odd name", "text"): 14,
        ("train",): 15,
        ("train", "steps"): 16,
    }


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_a_literal_is_toml(value: Any) -> None:
    text = literal(value)
    assert "\n" not in text
    assert repr(tomllib.loads(f"v = {text}")["v"]) == repr(value)
    assert len(short_literal(value)) <= 60
