"""Where components come from: the package, plugins/ and installed packages, read without importing any of them.

A regular expression finds the marks in source files, and entry points list installed components.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mmctl
from mmctl.errors import PluginError
from mmctl.filesystem import read_file
from mmctl.plugin import API, KINDS
from mmctl.text import display_path, printable

if TYPE_CHECKING:
    from importlib.metadata import Distribution

FOLDERS = {kind: "losses" if kind == "loss" else f"{kind}s" for kind in KINDS}
"""Kind -> its folder in the package; with `mmctl.` before it, its entry point group."""

NAME = re.compile(r"[a-z][a-z0-9_]*")
SIZE = 4 * 2**20
"""Largest file of plugins/ that is read, in bytes."""

_MARK = re.compile(
    rf"""
    ^@(?:[\w.]+\.)?(?P<kind>{"|".join(KINDS)})\(\s*["'](?P<name>[^"'\n]*)["']\s*,?\s*\)[^\n]*\n   # the mark
    (?:[@\#)\s][^\n]*\n|\n)*?                                                     # other decorators, comments
    (?:class|def)[ ]+(?P<attr>\w+)
    (?:(?:(?!:[ \t]*(?:\#[^\n]*)?\n|\n[^\s)])[\s\S])*:[ \t]*(?:\#[^\n]*)?\n       # up to the end of its signature
       \s+[rR]?(?:\"\"\"|'''|"|')\s*(?P<summary>[^\n]*))?                         # the first line of its docstring
    """,
    re.M | re.X,
)


@dataclass(frozen=True)
class Entry:
    """One component in the index, not imported yet."""

    kind: str
    name: str
    origin: str  # "mmctl", "plugins", or the name of an installed package
    module: str
    attr: str
    file: Path | None = None
    line: int = 0
    summary: str = ""
    version: str | None = None  # of its package; None for plugins/
    sha256: str | None = None  # of the file; only for plugins/ and packages in editable mode, which change in place
    broken: str | None = None  # why it cannot be used, if that is known without an import

    @property
    def qualified(self) -> str:
        """The unambiguous name, ORIGIN:NAME."""
        return f"{self.origin}:{self.name}"

    @property
    def place(self) -> str:
        """Its source for messages: `plugins/paper.py:12` or `mmctl-proto 0.3`."""
        if self.origin == "plugins" and self.file:
            return f"{display_path(self.file)}:{self.line}" if self.line else display_path(self.file)
        return f"{self.origin} {self.version}" if self.version else self.origin


def marks(text: str) -> Iterator[Entry]:
    """The marked components in a source text; origin and module are empty."""
    for m in _MARK.finditer(text):
        summary = re.split(r"\"\"\"|'''|[\"']\s*$", m["summary"] or "")[0].strip()
        yield Entry(m["kind"], m["name"], "", "", m["attr"], None, text.count("\n", 0, m.start()) + 1, summary)


def package_entries() -> Iterator[Entry]:
    root = Path(mmctl.__file__).parent
    for folder in FOLDERS.values():
        for file in sorted((root / folder).glob("[!_]*.py")):
            for entry in marks(file.read_text("utf-8")):
                module = f"mmctl.{folder}.{file.stem}"
                yield replace(entry, origin="mmctl", module=module, file=file, version=mmctl.__version__)


def plugin_files(folder: Path) -> list[Path]:
    """The files of plugins/; PluginError if the folder cannot be read."""
    try:
        return sorted(folder.glob("[!_]*.py"))
    except OSError as error:
        raise PluginError(f"the folder of plugins, {folder}, cannot be read ({error.strerror}).") from None


def local_entries(folder: Path) -> Iterator[Entry]:
    for file in plugin_files(folder):
        try:
            text = (raw := read_file(file, SIZE)).decode("utf-8-sig")
        except (OSError, ValueError):
            continue  # missed.py tells this
        bad_name = "its file name is not a valid module name: use letters, digits and _"
        wrong = None if file.stem.isidentifier() else bad_name
        module, sha256 = f"mmctl.local.{file.stem}", hashlib.sha256(raw).hexdigest()
        broken = wrong or _other_api(text)
        for entry in marks(text):
            yield replace(entry, origin="plugins", module=module, file=file, sha256=sha256, broken=broken)


def installed_entries() -> Iterator[Entry]:
    from importlib.metadata import entry_points

    points = entry_points()  # once: it reads the metadata of every package
    for kind, folder in FOLDERS.items():
        for point in points.select(group=f"mmctl.{folder}"):
            origin = re.sub(r"[-_.]+", "-", point.dist.name).lower() if point.dist else "unknown"
            version = point.dist.version if point.dist else None
            file = _source(point.module)
            entry = Entry(kind, point.name, origin, point.module, point.attr, file, version=version)
            if not point.attr:
                entry = replace(entry, broken=f'its entry point "{point.value}" must be MODULE:OBJECT')
            elif file is None and point.module not in sys.modules:
                entry = replace(entry, broken=f"its module {point.module} was not found")
            elif file and file.suffix == ".py":
                text = (raw := file.read_bytes()).decode("utf-8", errors="replace")
                sha256 = hashlib.sha256(raw).hexdigest() if point.dist and _editable(point.dist) else None
                entry = replace(entry, sha256=sha256, broken=_other_api(text))
                for mark in marks(text):
                    if mark.attr == point.attr:
                        entry = replace(entry, line=mark.line, summary=mark.summary)
            if point.dist and (unmet := _other_mmctl(point.dist)):
                entry = replace(entry, broken=unmet)
            yield entry


def _other_api(text: str) -> str | None:
    """Why a source text that says `MMCTL_API = N` is not for this mmctl; None if it is, or does not say."""
    found = re.search(r"^MMCTL_API\s*(?::\s*\w+\s*)?=\s*(\d{1,9})\b", text, re.M)
    if found is None or (wanted := int(found[1])) == API:
        return None
    said = (
        f"it is written for version {wanted} of mmctl.plugin (MMCTL_API), and this mmctl {mmctl.__version__} has {API}"
    )
    if wanted > API:
        return f"{said}: upgrade mmctl"
    return f"{said}: the changelog of mmctl says what to change in it"


def _editable(package: Distribution) -> bool:
    """Whether a package is installed with `pip install -e`, so that its source can change without its version."""
    import json

    try:
        about = json.loads(package.read_text("direct_url.json") or "{}")
        return bool(about.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return False


def _other_mmctl(package: Distribution) -> str | None:
    """Why an installed package is not for this version of mmctl: pip says so when it installs, and never again."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in package.requires or ():
        try:
            needs = Requirement(text) if re.match(r"mmctl(?![\w.-])", text, re.I) else None
        except InvalidRequirement:
            continue
        if needs is None or (needs.marker and not needs.marker.evaluate({"extra": ""})):
            continue
        if not needs.specifier.contains(mmctl.__version__, prereleases=True):
            return (
                f"{package.name} {package.version} needs mmctl{needs.specifier}, and version {mmctl.__version__} is "
                f"installed: install a version of one of them that fits"
            )
    return None


def _source(module: str) -> Path | None:
    """The file of a module, found without importing the module or its package."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not rest:
        return Path(spec.origin) if spec and spec.origin else None
    bases = [Path(folder, *rest) for folder in spec.submodule_search_locations or ()]
    files = (file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py"))
    return next((file for file in files if file.is_file()), None)


def checked(entry: Entry, entries: Iterable[Entry]) -> Entry:
    """The entry, marked broken if its name is invalid or used twice in one origin."""
    if entry.broken:
        return entry
    if not NAME.fullmatch(entry.name):
        name = printable(entry.name)
        return replace(
            entry, broken=f'"{name}" is an invalid name: use lower-case letters, digits and _, starting with a letter'
        )
    key = (entry.kind, entry.name, entry.origin)
    twins = [e for e in entries if (e.kind, e.name, e.origin) == key]
    if len(twins) > 1:
        where = " and ".join(f"{display_path(e.file)}:{e.line}" if e.file else f"{e.module}:{e.attr}" for e in twins)
        return replace(entry, broken=f"two components have this name: {where}")
    return entry
