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
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^/\s\"'<>]{0,300}@")
_MIXED, _UUID = r"(?=[A-Za-z]{0,60}\d)[A-Za-z0-9]{20,}", r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_SHAPES = {
    "hf_": r"\bhf_[A-Za-z0-9]{16,}", "gh": r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}",
    "glpat-": r"\bglpat-[\w-]{16,}", "xox": r"\bxox[abeprs]-[\w-]{10,}",
    "sk-": rf"\bsk-[\w-]{{0,40}}?(?:{_MIXED}|{_UUID})[\w-]*",
    "AKIA": r"\bAKIA[A-Z0-9]{16}\b", "ASIA": r"\bASIA[A-Z0-9]{16}\b", "AIza": r"\bAIza[\w-]{30,}",
    "eyJ": r"\beyJ[\w-]{10,1000}\.[\w-]{10,1000}\.[\w-]*",
    "earer ": r"\b[Bb]earer +(?=[A-Za-z_.~+/=-]{0,1000}\d)[\w.~+/=-]{8,}",
    "PRIVATE KEY": r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----",
}  # fmt: skip
"""What a token looks like, and a text that is in it: to look for that first is a hundred times as fast."""
_VALUE = r"""(?:"[^"]{0,2000}"|'[^']{0,2000}'|[^\s,;&}\])]+)"""
_NAMED = re.compile(rf"(?i)((?:{_NAMES})[\"']?\s*[=:]\s*|token[\"']?\s*[=:]\s*(?=\S{{8}})){_VALUE}")
_LITERAL = re.compile(rf"(?i)(?:{_NAMES}|token(?!i[sz]))\w*[\"']?\s*[=:]\s*[\"'][^\"'\s$]{{{LONG},}}[\"']")
"""In code, where `token = tokens[i]` is no secret: a long literal only, and not the name of a tokenizer."""
_TOML = re.compile(r'''"""(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|(#[^\n]*)''', re.DOTALL)
"""The strings and comments of TOML; group 1: a comment."""
_HINTS = ("passw", "passphrase", "secret", "credential", "key", "token")


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
    if "://" in content:
        content = _URL.sub(rf"\g<1>{HIDDEN}@", content)
    for hint, shape in _SHAPES.items():
        if hint in content:
            content = re.sub(shape, HIDDEN, content)
    return _NAMED.sub(rf"\g<1>{HIDDEN}", content)


def comments(toml: str) -> str:
    """TOML with its comments as `text` gives them, and its values as they are."""
    return _TOML.sub(lambda found: text(found[0]) if found[1] else found[0], toml)


def in_code(content: str) -> bool:
    """Whether a piece of source code has a secret written into it."""
    if any(hint in content and re.search(shape, content) for hint, shape in _SHAPES.items()):
        return True
    if "://" in content and any(":" in url[0][len(url[1]) :] for url in _URL.finditer(content)):
        return True
    small = content.lower()
    return any(hint in small for hint in _HINTS) and _LITERAL.search(content) is not None


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
