"""Turns pydantic's errors into messages for users: key, what it must be, the given value, a suggestion."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from mmctl.errors import suggest
from mmctl.text import short_literal

Fault = tuple[tuple[str | int, ...], str]
"""The place in a table, and what is wrong there."""

FAMILIAR = {
    "epochs": ("train", "steps"),
    "iterations": ("train", "steps"),
    "batch_size": ("train", "batch"),
    "learning_rate": ("optimizer", "lr"),
    "wd": ("optimizer", "weight_decay"),
    "ema": ("average", "decay"),
    "ema_decay": ("average", "decay"),
    "num_labels": ("split", "labels"),
    "model": ("backbone", "name"),
    "per": ("method", "lambda_per"),
    "member": ("centroids", "normalize_embeddings"),
    "norm": ("centroids", "normalize_centroids"),
}
"""Unknown key -> the key that was probably meant: names of other programs and earlier names of mmctl."""


def faults_of(model: type[BaseModel], table: Mapping[str, Any], error: ValidationError) -> list[Fault]:
    """Pydantic's errors as messages, one for each place; the members of a union are joined by "or"."""
    places: dict[tuple[str | int, ...], list[tuple[str, str]]] = {}
    given: dict[tuple[str | int, ...], Any] = {}
    for e in error.errors(include_url=False):
        at, value = _place(table, e["loc"], e["type"])
        if e["type"] == "extra_forbidden":
            names = [str(f.alias or n) for n, f in model.model_fields.items()] if len(at) == 1 else []
            places.setdefault(at, []).append(("", "unknown key" + semicolon(suggest(str(at[-1]), names))))
        elif e["type"] == "missing":
            short = isinstance(e["loc"][-1], int)  # an index: a list is too short for its tuple
            places.setdefault(at, []).append(("", "has too few values" if short else "is required"))
        else:
            given[at] = value
            sort = "type" if e["type"].endswith(("_type", "_parsing", "_from_float")) else "bound"
            sort = "" if e["type"] == "literal_error" else sort
            places.setdefault(at, []).append((sort, _words(e["type"], e.get("ctx", {}), e["msg"])))
    faults: list[Fault] = []
    for at, messages in places.items():
        bound = any(sort == "bound" for sort, _ in messages)
        words = list(dict.fromkeys(text for sort, text in messages if not (bound and sort == "type")))
        text = " or ".join([words[0], *(word.removeprefix("must be ") for word in words[1:])])
        if at in given:
            known = re.findall(r'"([^"]*)"', text)
            hint = semicolon(suggest(given[at], known)) if isinstance(given[at], str) else ""
            text += f" (got {short_literal(given[at])}){hint}"
        faults.append((at, text))
    return faults


def semicolon(hint: str) -> str:
    """A hint of errors.suggest, to be appended to a message: `; did you mean "x"?`."""
    return hint.replace(" Did", "; did", 1)


def _place(table: Any, loc: tuple[str | int, ...], kind: str) -> tuple[tuple[str | int, ...], Any]:
    """The place in the table and its value; pydantic's path `loc` also has the names of union members."""
    at: list[str | int] = []
    value = table
    for n, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:
            at.append(part)
            value = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            at.append(part)
            value = value[part]
        elif kind == "missing" and n == len(loc) - 1 and isinstance(part, str):
            at.append(part)
    return tuple(at), value


_TYPES = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a string in quotes",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "path_type": "a path in quotes",
    "finite_number": "finite",
}
_BOUNDS = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}


def _words(kind: str, ctx: Mapping[str, Any], message: str) -> str:
    if kind == "literal_error":
        expected = ctx["expected"].replace("'", '"')
        return f"must be one of {expected}" if " or " in expected else f"must be {expected}"
    if kind in ("too_short", "too_long"):
        bound, n = ("least", ctx["min_length"]) if "min_length" in ctx else ("most", ctx["max_length"])
        return f"must have at {bound} {n} value{'s' * (n != 1)}"
    for key, words in _BOUNDS.items():
        if key in ctx:
            return f"must be {words} {ctx[key]:g}" if isinstance(ctx[key], float) else f"must be {words} {ctx[key]}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:].replace("nput should", "must").replace("tring should", "must")


def key_hint(word: str, here: str, known: Sequence[str], tables: Mapping[str, Sequence[str]]) -> str:
    """A hint for an unknown key `word` of table `here`: a similar key of this or another table, or all keys."""
    if word in FAMILIAR:
        table, key = FAMILIAR[word]
        return f'; use "{key}"' if table == here else f'; [{table}] has "{key}"'
    elsewhere = {table: keys for table, keys in tables.items() if table != here}
    exact = [f"[{table}]" for table, keys in elsewhere.items() if word in keys]
    if exact and word != "name":
        return f'; {" and ".join(exact[:2])} {"has" if len(exact) == 1 else "have"} "{word}"'
    if hint := suggest(word, known):
        return semicolon(hint)
    others = {key: table for table, keys in elsewhere.items() for key in keys}
    if close := difflib.get_close_matches(word, others, n=1, cutoff=0.5):
        return f'; [{others[close[0]]}] has "{close[0]}"'
    return f"; known: {', '.join(known)}" if known else ""
