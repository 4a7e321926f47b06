"""Answers the shell's TAB without the parser, whose imports alone take longer than a person waits.

The shells call `mmctl` with _MMCTL_COMPLETE, as the scripts of `mmctl --install-completion` say. The commands with
their options are in commands.json, which `make docs` makes from the app; a test compares both ways of answering.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

Found = list[tuple[str, str]]
COMMANDS = Path(__file__).with_name("commands.json")
BREAKS = ":=@"
"""Characters at which bash cuts a word in pieces, and replaces the last piece alone."""


class Option(TypedDict):
    """An option of a command."""

    names: list[str]
    help: str
    value: NotRequired[bool]  # a value follows
    many: NotRequired[bool]  # it can be given several times
    complete: NotRequired[str]  # the function of values.py that completes its value


class Node(TypedDict):
    """A command, or a group of commands."""

    help: str
    options: list[Option]
    arguments: NotRequired[list[str]]  # for each argument the function that completes it, or ""
    many: NotRequired[bool]  # the last argument can be given several times
    commands: NotRequired[dict[str, Node]]


def answer(environ: Mapping[str, str]) -> tuple[str, int] | None:
    """What to print and the exit code; None for what typer must answer: another shell, or the script itself."""
    shell = environ["_MMCTL_COMPLETE"].removeprefix("complete_")
    if shell == "bash":
        place = int(environ.get("COMP_CWORD", "0"))
        words = split(environ.get("COMP_WORDS", ""))[: place + 1]
        words += [""] * (place + 1 - len(words))
        words, kept = _joined(words)
        return "\n".join(value[kept:] for value, _ in suggestions(words[1:-1], words[-1])), 0
    if shell not in ("zsh", "fish"):
        return None
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    words = split(line)[1:]
    last = words.pop() if words and not line.endswith(" ") else ""
    found = suggestions(words, last)
    if shell == "zsh":
        lines = (f'"{_zsh(value)}":"{_zsh(about)}"' if about else f'"{_zsh(value)}"' for value, about in found)
        return ("_arguments '*: :((" + "\n".join(lines) + "))'", 0) if found else ("_files", 0)
    if environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return "", 0 if found else 1
    return "\n".join(f"{value}\t{' '.join(about.split())}" if about else value for value, about in found), 0


def suggestions(words: Sequence[str], last: str) -> Found:
    """What may stand in place of the word `last`, after the complete words of a command line."""
    node: Node = json.loads(COMMANDS.read_text("ascii"))
    given, count, waiting, ended = set[str](), 0, "", False
    for word in words:
        option = None if ended else _option(node, word)
        if waiting:
            waiting = ""
        elif word == "--" and not ended:
            ended = True
        elif option is not None and word.startswith("-"):
            given.add(option["names"][0])
            waiting = option["names"][0] if option.get("value") and "=" not in word else ""
        elif word in node.get("commands", {}):
            node, given, count = node["commands"][word], set(), 0
        else:
            count += 1
    if not waiting and not ended and last.startswith("-"):
        given_name, equals, rest = last.partition("=")
        if not equals:
            return [
                (one, option["help"])
                for option in node["options"]
                if option.get("many") or option["names"][0] not in given
                for one in option["names"]
                if one.startswith(last)
            ]
        return [(f"{given_name}={value}", about) for value, about in _values(node, given_name, rest)]
    if waiting:
        return _values(node, waiting, last)
    if "commands" in node:
        return [(name, one["help"]) for name, one in node["commands"].items() if name.startswith(last)]
    arguments = node.get("arguments", [])
    if node.get("many"):
        count = min(count, len(arguments) - 1)
    name = arguments[count] if count < len(arguments) else ""
    return _completer(name)(last) if name else []


def _values(node: Node, option: str, last: str) -> Found:
    found = _option(node, option)
    name = found.get("complete", "") if found else ""
    return _completer(name)(last) if name else []


def split(text: str) -> list[str]:
    """The words of a line that may end within quotes."""
    reader = shlex.shlex(text, posix=True)
    reader.whitespace_split, reader.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(reader)
    except ValueError:
        words.append(reader.token)
    return words


def _option(node: Node, word: str) -> Option | None:
    name = word.partition("=")[0]
    return next((option for option in node["options"] if name in option["names"]), None)


def _joined(words: Sequence[str]) -> tuple[list[str], int]:
    """Puts the pieces together that bash makes of `state:failed` and `@last`.

    Also how many characters of the last word bash leaves as they are: it replaces the last piece alone.
    """
    made: list[str] = []
    glue, kept = "", 0
    for n, word in enumerate(words):
        if n > 1 and word and (glue or word in (":", "=")):
            if glue != "@":  # which bash replaces with the word behind it
                kept = len(made[-1]) + (len(word) if word in (":", "=") else 0)
            made[-1] += word
        else:
            kept = 0
            made.append(word)
        glue = word if word and word in BREAKS else ""
    return made, kept


def _zsh(text: str) -> str:
    text = text.replace('"', '""').replace("'", "''").replace("$", "\\$").replace("`", "\\`")
    return text.replace(":", r"\\:")


def _completer(name: str) -> Callable[[str], Found]:
    if name == "complete_recipe":
        from mmctl.recipe.find import complete_recipe

        return complete_recipe
    from mmctl.completion import values as complete

    return getattr(complete, name)  # type: ignore[no-any-return]
