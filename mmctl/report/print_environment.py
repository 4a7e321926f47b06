"""Prints what a run was computed with: machine, code, packages."""

from __future__ import annotations

from rich.console import Console

from mmctl.report.console import file_size, print_heading, print_line, print_list
from mmctl.report.provenance import SHOWN, code_line, tables
from mmctl.report.results import RunDetails
from mmctl.run_folder.provenance import packages_of
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import flatten, whole, words
from mmctl.text import printable


def print_environment(run: RunDetails, out: Console) -> None:
    """The page of `mmctl show --env`."""
    found = run["provenance"]
    if not found:
        print_line(out, "nothing was noted of the packages and the machine (run of an older version)", "dim")
    for title, table in (
        ("Machine", {**_table(run["environment"]), **_table(found.get("hardware"))}),
        ("torch", _table(found.get("torch"))),
        ("Environment variables", _table(found.get("variables"))),
    ):
        rows = {key: value for key, value in flatten({**table}).items() if not key.startswith("versions.")}
        if rows:
            print_heading(out, title)
            for key, value in rows.items():
                shown = file_size(whole(value)) if key == "memory" else printable(_joined(value))
                print_line(out, f"  {printable(key):<22} {shown}")
    _print_code(run, _table(found.get("git")), out)
    packages = packages_of(found) or {
        key: printable(value) for key, value in _table(_table(run["environment"]).get("versions")).items()
    }
    print_heading(out, f"Packages ({len(packages)})")
    print_list(out, "", [printable(f"{name} {version}") for name, version in packages.items()])


def _print_code(run: RunDetails, files: Config, out: Console) -> None:
    if not (line := code_line(run["git"])):
        return
    print_heading(out, "Code")
    print_line(out, f"  {line}")
    for title, names in (
        ("changed", words(files.get("changed"))),
        ("not in the patch", words(files.get("left_out"))),
        ("untracked", [str(one.get("path")) for one in tables(files.get("untracked"))]),
    ):
        for name in names[:SHOWN]:
            print_line(out, f"  {title:<17} {printable(name)}")
        if len(names) > SHOWN:
            print_line(out, f"  {title:<17} ... and {len(names) - SHOWN} more")
    if whole(files.get("patch_bytes")):
        print_line(out, f"  {'patch':<17} {printable(run['folder'])}/code.patch")


def _joined(value: Setting) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(value: Setting) -> Config:
    return value if isinstance(value, dict) else {}
