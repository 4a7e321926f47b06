"""Converts plain words of the command line without pydantic, whose import takes a quarter of a short command.

typer builds a converter with pydantic for each argument and option that a command has, used or not. Here those get one
that gives the same values and has nothing to build: text, lists of text, paths, and what has a parser of its own. With
a typer that has no such converters nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKS = ("exists", "file_okay", "dir_okay", "writable", "readable", "resolve_path", "allow_dash", "path_type")
"""What typer may be asked to check of a path."""
UNCHECKED = {"file_okay": True, "dir_okay": True, "readable": True}


class Converter:
    """What typer calls for the value of one parameter; convert: None leaves a value that is given to typer."""

    def __init__(self, param: Any, convert: Callable[[Any], Any] | None, many: bool) -> None:
        self.convert, self.many, self.typers = convert, many, param.get_runtime_param

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value that the command gets for a word, for several, or for the default."""
        if value is None:
            return () if self.many else None
        if self.convert is None:
            return self.typers().coerce(value, param=param, ctx=ctx)
        return [self.convert(one) for one in value] if self.many else self.convert(value)


def use_plain_values(command: Any) -> None:
    """Give the parameters of a command, and of all commands of a group, plain converters."""
    for param in command.params:
        _change(param)
    if hasattr(command, "get_help_option"):  # it is made anew, and is in no list
        made = command.get_help_option
        command.get_help_option = lambda context: _change(made(context))
    for one in getattr(command, "commands", {}).values():
        use_plain_values(one)


def _change(param: Any) -> Any:
    if hasattr(param, "get_runtime_param") and hasattr(param, "type_descriptor"):
        made = _converter(param, param.type_descriptor)
        param.get_runtime_param = lambda: made
    return param


def _converter(param: Any, about: Any) -> Converter:
    info, many = about.parameter_info, bool(getattr(param, "multiple", False) or param.nargs == -1)
    convert: Callable[[Any], Any] | None = None
    if info.parser is not None:
        convert = None if many else info.parser
    elif about.annotation == (list[str] if many else str):
        convert = str
    elif about.annotation is Path and not many:
        asked = {name: getattr(info, name, None) for name in CHECKS}
        convert = Path if all(not value or UNCHECKED.get(name) for name, value in asked.items()) else None
    return Converter(param, convert, many)
