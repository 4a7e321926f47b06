"""Finds components by name: one index of mmctl's own, those in plugins/ and those of installed packages.

The index is built without imports: a regular expression finds the marks in source files, and entry points list
installed components. A component is imported only when it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from mmctl import project
from mmctl.errors import PluginError, suggest
from mmctl.plugin import KINDS
from mmctl.registry.helper_files import helper_hashes
from mmctl.registry.missed import missed_entries
from mmctl.registry.parameters import Shape, shape
from mmctl.registry.sources import Entry, checked, installed_entries, local_entries, package_entries
from mmctl.text import display_path, printable

SOURCES = ("off", "local", "all")
FEW = 3
"""Most files that were not read that an error names."""


class Index:
    """All available components; built at first use.

    sources: "off" = only mmctl's own, "local" = also plugins/, "all" = also installed packages ($MMCTL_PLUGINS).
    """

    def __init__(self, plugins: Path | None = None, sources: str | None = None) -> None:
        self.sources = sources or os.environ.get("MMCTL_PLUGINS") or "all"
        if self.sources not in SOURCES:
            raise PluginError(f'MMCTL_PLUGINS is "{printable(self.sources)}"; use off, local or all')
        self.plugins = (plugins or project.plugins_dir()).absolute()
        self._shapes: dict[tuple[str, str], tuple[Callable[..., Any], Shape]] = {}
        self._helpers: dict[Path, dict[str, str]] = {}

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every component, sorted by kind, origin and name, including broken ones."""
        found = list(package_entries())
        if self.sources != "off":
            found += local_entries(self.plugins)
        if self.sources == "all":
            found += installed_entries()
        found = [checked(entry, found) for entry in found]
        origins = {"mmctl": 0, "plugins": 1}
        return tuple(sorted(found, key=lambda e: (KINDS.index(e.kind), origins.get(e.origin, 2), e.origin, e.name)))

    @cached_property
    def missed(self) -> tuple[Entry, ...]:
        """What looks like a component in plugins/ and is none, each with the reason; an unreadable file has no kind."""
        return () if self.sources == "off" else tuple(missed_entries(self.plugins))

    def names(self, kind: str) -> list[str]:
        """The names of a kind for recipes: short for mmctl's own components, ORIGIN:NAME for others."""
        return [e.name if e.origin == "mmctl" else e.qualified for e in self.entries if e.kind == kind]

    def find(self, kind: str, name: str, home: str | None = None) -> Entry:
        """The component of this kind and name, else PluginError; home: the preferred origin of a short name."""
        origin, _, short = name.rpartition(":")
        found = [e for e in self.entries if (e.kind, e.name) == (kind, short) and origin in ("", e.origin)]
        origins = {e.origin for e in found}
        for preferred in (home, "mmctl") if home and len(origins) > 1 else ():
            if preferred in origins:
                found, origins = [e for e in found if e.origin == preferred], {preferred}
        if not found:
            raise PluginError(self._unknown(kind, name))
        if len(origins) > 1:
            each = " and ".join(f"{e.qualified} ({e.place})" for e in found)
            raise PluginError(f'{kind} "{name}" is ambiguous: {each}. Use one of these full names.')
        if found[0].broken:
            raise PluginError(f"{kind} {found[0].qualified} cannot be used: {found[0].broken}")
        return found[0]

    def _unknown(self, kind: str, name: str) -> str:
        word = printable(name)
        others = [e for e in self.entries if e.kind != kind and name in (e.name, e.qualified)]
        if others:
            return f'"{word}" is {article(others[0].kind)}, not {article(kind)}.{self._known(kind)}'
        close: dict[str, str] = {}
        for other in (kind, *KINDS):
            for n in self._spellings(other):
                close.setdefault(n, f'"{n}"' if other == kind else f'"{n}" ({article(other)})')
        hint = suggest(name, close)
        for n in sorted(close, key=len, reverse=True):
            hint = hint.replace(f'"{n}"', close[n])
        origin = name.rpartition(":")[0]
        if origin not in ("", "mmctl", "plugins") and not any(e.origin == origin for e in self.entries):
            off = f" (MMCTL_PLUGINS={self.sources})" if self.sources != "all" else ""
            return f"{printable(origin)} is not installed{off}: {kind} {word} is one of its components."
        how_to_add = f"To add one: `mmctl plugins new NAME --kind {kind}`."
        missed = [e for e in self.missed if e.kind in (kind, "") and origin in (e.origin, "")]
        unread = "".join(f" Not read: {e.place}: {e.broken}." for e in sorted(missed, key=lambda e: not e.kind)[:FEW])
        unread += " `mmctl plugins list` names more that were not read." if len(missed) > FEW else ""
        return f'no {kind} "{word}".{hint}{unread}{self._known(kind)} {how_to_add}'

    def _spellings(self, kind: str) -> Iterator[str]:
        for e in self.entries:
            if e.kind == kind:
                yield e.name
                if e.origin != "mmctl":
                    yield e.qualified

    def _known(self, kind: str) -> str:
        off = "" if self.sources == "all" else f" (MMCTL_PLUGINS={self.sources})"
        return f" Known: {', '.join(self.names(kind)) or 'none'}{off}."

    def load(self, entry: Entry) -> Callable[..., Any]:
        """Import the component; raises PluginError whatever its import raises."""
        return self._loaded(entry)[0]

    def shape(self, entry: Entry) -> Shape:
        """The supplied arguments and the parameters of the component; raises PluginError like `load`."""
        return self._loaded(entry)[1]

    def helpers(self, entry: Entry) -> dict[str, str]:
        """The SHA-256 of each file of its own that a plugin imports; empty for what its version identifies."""
        if entry.sha256 is None or entry.file is None:
            return {}
        if entry.file not in self._helpers:
            local, top = entry.origin == "plugins", entry.module.partition(".")[0]
            # The folder in which the module is `a.b.c` is that many above it.
            up = 0 if local else entry.module.count(".") - (entry.file.name != "__init__.py")
            folder, package = entry.file.parents[max(up, 0)], "mmctl.local" if local else top
            one_file = not local and folder.name != top  # not in a package
            found = {} if one_file else helper_hashes(entry.file, folder, package, own_init=not local)
            self._helpers[entry.file] = found
        return self._helpers[entry.file]

    def _loaded(self, entry: Entry) -> tuple[Callable[..., Any], Shape]:
        key = (entry.kind, entry.qualified)
        if key not in self._shapes:
            component = _import(entry)
            try:
                self._shapes[key] = component, shape(component, entry.kind)
            except PluginError as error:
                raise PluginError(f"{entry.kind} {entry.qualified} ({entry.place}): {error}") from error
        return self._shapes[key]


def article(kind: str) -> str:
    """A kind with its article: `a loss`, `an augment`."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _import(entry: Entry) -> Callable[..., Any]:
    try:
        module = _local_module(entry) if entry.origin == "plugins" else importlib.import_module(entry.module)
        component: Any = module
        for part in entry.attr.split("."):
            component = getattr(component, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: sys.exit() in a plugin must not end mmctl without a message
        raise PluginError(failure(entry, error, "cannot be imported")) from error
    mark = vars(component).get("__mmctl__") if hasattr(component, "__dict__") else None
    if mark != (entry.kind, entry.name):
        actual = f"is marked as {mark[0]} {mark[1]}" if mark else f"has no @{entry.kind} mark"
        raise PluginError(f"{entry.kind} {entry.qualified} ({entry.place}): {entry.module}:{entry.attr} {actual}")
    return component  # type: ignore[no-any-return]


def _local_module(entry: Entry) -> ModuleType:
    """Import mmctl.local.<file> from the plugins folder of this index."""
    import mmctl.local

    assert entry.file is not None
    folder = str(entry.file.parent)
    if list(mmctl.local.__path__)[-1] != folder:
        mmctl.local.__path__[:] = [mmctl.local.__path__[0], folder]
        for name in [n for n in sys.modules if n.startswith("mmctl.local.")]:
            del sys.modules[name]  # a plugin of another project
            vars(mmctl.local).pop(name.rpartition(".")[2], None)  # `from . import name` looks here first
        importlib.invalidate_caches()
    return importlib.import_module(entry.module)


def failure(entry: Entry, error: BaseException, what: str) -> str:
    """The message for a plugin that raised: the last line of the exception, and FILE:LINE in the plugin."""
    reason = printable("".join(traceback.format_exception_only(error)).strip().splitlines()[-1])
    where = ""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        where = f" ({display_path(Path(error.filename))}:{error.lineno})"
    elif entry.file:
        at = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == entry.file]
        where = f" ({display_path(entry.file)}:{at[-1]})" if at else f" ({display_path(entry.file)})"
    return f"{entry.kind} {entry.qualified} {what}: {reason}{where}. Set MMCTL_DEBUG=1 to see the traceback."
