"""Signatures become checked models; tables are refused in words."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from mmctl.errors import PluginError
from mmctl.registry.optional import optional
from mmctl.registry.parameters import check_table, meaning, parameters, schema, shape, values, written


class Everything:
    """All sorts of parameters.

    Args:
        m: Fuzzifier; close to 1
            is hard.
        form (str): Which form.

    More text: not a parameter.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        m: Annotated[float, Field(gt=1)] = 2,
        form: Literal["hard", "soft"] = "soft",
        span: tuple[float, float] = (0, 1),
        n: int | None = None,
        near: bool = True,
        copy: str = "x",
        file: Path = Path("a"),
        args: dict[str, Any] = {},  # noqa: B006
        few: int | Annotated[float, Field(gt=0, lt=1)] = 0,
        loose: Annotated[float, Field(allow_inf_nan=True)] = 1.0,
    ) -> None: ...


MODEL = shape(Everything, "labeler").model


def faults(**table: Any) -> dict[str, str]:
    return {".".join(map(str, at)): message for at, message in check_table(MODEL, table)[1]}


def test_supplied_arguments_and_defaults() -> None:
    assert shape(Everything, "labeler").supplied == ("num_classes",)
    checked, wrong = check_table(MODEL, {})
    assert checked is not None
    assert not wrong
    assert values(checked)["m"] == 2.0
    assert isinstance(values(checked)["m"], float)  # so that a default and its written form are one
    assert values(checked)["span"] == (0.0, 1.0)
    assert values(checked)["n"] is None


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ({"m": 0.9}, "m", "must be greater than 1 (got 0.9)"),
        ({"m": "2"}, "m", 'must be a number (got "2")'),
        ({"m": True}, "m", "must be a number (got true)"),
        ({"m": math.inf}, "m", "must be finite (got inf)"),
        ({"m": math.nan}, "m", "must be finite (got nan)"),
        ({"n": 1.0}, "n", "must be an integer (got 1.0)"),
        ({"n": True}, "n", "must be an integer (got true)"),
        ({"near": 1}, "near", "must be true or false (got 1)"),
        ({"form": "sof"}, "form", 'must be one of "hard" or "soft" (got "sof"); did you mean "soft"?'),
        ({"span": [1]}, "span", "has too few values"),
        ({"span": [1, 2, 3]}, "span", "must have at most 2 values (got [1, 2, 3])"),
        ({"span": [1, "a"]}, "span.1", 'must be a number (got "a")'),
        ({"args": {"a": [1, math.inf]}}, "args.a.1", "must be finite"),
        ({"args": 3}, "args", "must be a table (got 3)"),
        ({"few": 1.5}, "few", "must be less than 1 (got 1.5)"),
        ({"few": "a"}, "few", 'must be an integer or a number (got "a")'),
        ({"temperatur": 1}, "temperatur", "unknown key"),
        ({"forn": "soft"}, "forn", 'unknown key; did you mean "form"?'),
        ({"copy": 1}, "copy", "must be a string in quotes (got 1)"),
        ({"p_m": 3.0}, "p_m", 'unknown key; did you mean "m"?'),
    ],
)
def test_a_wrong_table_is_told_in_words(table: dict[str, Any], key: str, message: str) -> None:
    assert faults(**table) == {key: message}


def test_all_faults_at_once() -> None:
    assert set(faults(m=0, n="a", x=1)) == {"m", "n", "x"}


def test_what_toml_can_write_is_taken() -> None:
    checked, _ = check_table(MODEL, {"m": 3, "span": [1, 2], "file": "b", "n": 4, "few": 0.5, "loose": math.inf})
    assert checked is not None
    got = values(checked)
    assert (got["m"], got["span"], got["file"], got["few"]) == (3.0, (1.0, 2.0), Path("b"), 0.5)
    assert math.isinf(got["loose"])


def test_a_literal_of_one_does_not_take_true() -> None:
    def component(*, n: Literal[1, 2] = 1) -> None: ...

    assert check_table(shape(component, "loss").model, {"n": True})[1] == [(("n",), "must be a number (got true)")]


def test_meanings_come_from_the_docstring() -> None:
    assert meaning(Everything) == {"m": "Fuzzifier; close to 1 is hard.", "form": "Which form."}


def test_parameters_for_people() -> None:
    rows = {row.name: row for row in parameters(MODEL)}
    assert rows["m"] == ("m", "float", "2.0", "> 1", "Fuzzifier; close to 1 is hard.")
    assert rows["form"].type == '"hard" | "soft"'
    assert rows["n"] == ("n", 'int | "none"', "-", "", "")
    assert rows["few"].bounds == "float > 0, < 1"
    assert rows["span"].type == "list[float, float]"


def test_json_schema_is_plain() -> None:
    made = schema(MODEL)
    assert made["additionalProperties"] is False
    assert made["properties"]["n"] == {"anyOf": [{"type": "integer"}, {"const": "none"}]}
    assert made["properties"]["m"]["exclusiveMinimum"] == 1


class Kind(Enum):
    NO = "none"
    YES = "yes"


def test_none_takes_an_optional_value_away_and_stays_a_word_where_it_is_one() -> None:
    def component(
        *,
        number: int | None = 3,
        text: str | None = None,
        word: Literal["none", "all"] | None = "all",
        kind: Kind | None = None,
        plain: str = "a",
        few: Annotated[float, Field(gt=0)] | None = None,
    ) -> None: ...

    model = shape(component, "loss").model
    assert optional(model) == {"number", "text", "few"}
    checked, faults = check_table(model, dict.fromkeys(("number", "text", "word", "kind", "plain", "few"), "none"))
    assert faults == []
    assert checked is not None
    want = {"number": None, "text": None, "word": "none", "kind": Kind.NO, "plain": "none", "few": None}
    assert values(checked) == want
    assert written(checked) == {"number": "none", "word": "none", "kind": "none", "plain": "none"}
    again, _ = check_table(model, written(checked))
    assert again is not None
    assert values(again) == want


class _Swallows:
    def __init__(self, **kwargs: int) -> None: ...


class _Wrong:
    def __init__(self, m: float = 1) -> None: ...


class _Untyped:
    def __init__(self, *, m=1) -> None: ...  # type: ignore[no-untyped-def]


class _Own:
    def __init__(self, *, weight: float = 1) -> None: ...


class _Supplied:
    def __init__(self, *, num_classes: int = 1) -> None: ...


class _BadDefault:
    def __init__(self, *, m: Annotated[float, Field(gt=1)] = 0.5) -> None: ...


class _Unwritable:
    def __init__(self, *, m: Any = object()) -> None: ...


class _Missing:
    def __init__(self, *, m: Nowhere = 1) -> None: ...  # type: ignore[name-defined] # noqa: F821


class _Hides:
    num_classes = 3

    def __init__(self, num_classes: int) -> None: ...


@pytest.mark.parametrize(
    ("component", "part"),
    [
        (_Swallows, "**kwargs"),
        (_Wrong, "m is before the *"),
        (_Untyped, "m has no type"),
        (_Own, "weight is a key that mmctl uses itself"),
        (_Supplied, "put it before the *"),
        (_BadDefault, "the default of parameter m"),
        (_Unwritable, "cannot be written"),
        (_Missing, "Nowhere, cannot be evaluated"),
        (_Hides, "hides"),
    ],
)
def test_the_star_rule(component: Any, part: str) -> None:
    with pytest.raises(PluginError) as error:
        shape(component, "loss")
    assert part in str(error.value)


def test_a_parameter_may_be_a_model_of_its_own() -> None:
    assert check_table(shape(_nested, "loss").model, {"inner": {"a": "x"}})[1] == [
        (("inner", "a"), 'must be an integer (got "x")')
    ]


class Inner(BaseModel):
    """Nested."""

    a: int = 1


def _nested(*, inner: Inner = Inner()) -> None: ...
