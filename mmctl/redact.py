"""Takes secrets out of what a run folder keeps: command lines, texts of errors, patches.

The value goes and its name stays, so that a reader sees what was there. Names decide where there is a name
(`--token x`, `api_key=x`), well-known shapes elsewhere (URLs with a password, tokens of GitHub, Hugging Face, AWS and
others).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

HIDDEN = "***"
_NAMES = r"passw(?:or)?d|passphrase|secret|credentials?|api[_-]?key|access[_-]?key|private[_-]?key"
_ARGUMENT = re.compile(rf"(?i){_NAMES}|token|(?<![a-z])(?:key|auth|authorization|pwd)(?![a-z])")
"""Names of arguments whose values are hidden: rather one too many."""
_SETTING = re.compile(rf"(?i)(?:^|[_-])(?:{_NAMES}|(token))$")
"""Names of settings that hold a secret; a token only if it is LONG, since networks have tokens too."""
LONG = 16
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s\"'<>]*@")
_SHAPE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bsk-[\w-]{20,}"
    r"|\bxox[abeprs]-[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
    r"|\b[Bb]earer +[\w.~+/=-]{8,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_NAMED = re.compile(
    rf"(?i)((?:{_NAMES})[\"']?\s*[=:]\s*|token[\"']?\s*[=:]\s*(?=\S{{8}}))(?:\"[^\"]*\"|'[^']*'|[^\s,;&}}\])]+)"
)
_LITERAL = re.compile(rf"(?i)(?:{_NAMES}|token)\w*[\"']?\s*[=:]\s*[\"'][^\"'\s$]{{{LONG},}}[\"']")
"""In code, where `token = tokens[i]` is no secret: a long literal only."""


def command(words: Sequence[str]) -> list[str]:
    """A command line with *** in place of what looks like a secret: `--token x`, `--token=x`, `--set a.token=x`."""
    found, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if hide:
            found.append(HIDDEN)
        elif equals and _ARGUMENT.search(name) and not any(c in name for c in "{\"' ?/"):
            found.append(f"{name}={HIDDEN}")
        else:
            found.append(text(word))
        hide = not hide and not equals and word.startswith("-") and _ARGUMENT.search(word) is not None
    return found


def text(content: str) -> str:
    """A text with *** in place of passwords in URLs, values of secret names, and well-known shapes of tokens."""
    return _NAMED.sub(rf"\g<1>{HIDDEN}", _SHAPE.sub(HIDDEN, _URL.sub(rf"\g<1>{HIDDEN}@", content)))


def in_code(content: str) -> bool:
    """Whether a piece of source code has a secret written into it."""
    return any(one.search(content) for one in (_SHAPE, _LITERAL)) or any(
        ":" in url[0][len(url[1]) :] for url in _URL.finditer(content)
    )


def in_settings(table: object, path: str = "") -> Iterator[str]:
    """The dotted keys of a recipe whose values look like secrets; `$NAME` names an environment variable and is none."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from in_settings(value, f"{path}.{key}" if path else str(key))
    elif isinstance(table, list):
        for value in table:
            yield from in_settings(value, path)
    elif isinstance(table, str) and table and not table.startswith("$"):
        name = _SETTING.search(path.rpartition(".")[2])
        long = len(table) >= LONG and not re.search(r"\s", table)
        if (name and (long or not name[1])) or in_code(table):
            yield path
