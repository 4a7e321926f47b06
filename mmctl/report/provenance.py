"""What a run was computed from, for `show`, `show --env` and `diff`: code, packages, machine."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from mmctl.report.console import file_size, print_heading, print_line, print_list
from mmctl.report.results import RunDetails
from mmctl.run_folder.provenance import packages_of
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import flatten, whole, words
from mmctl.store.rows import StoredRecord
from mmctl.text import printable

SHOWN = 10
"""Characters of a hash; files that are listed."""


def code_line(git: Setting) -> str:
    """`main 3ea4434391, 2 changed files (in code.patch), 1 untracked code file`; empty outside of a repository."""
    if not isinstance(git, dict):
        return ""
    commit = git.get("commit")
    parts = [" ".join(filter(None, (printable(git.get("branch")), printable(commit)[:SHOWN]))) or "no commit"]
    changed, untracked = whole(git.get("changed")), whole(git.get("untracked"))
    if git.get("dirty") is True:
        parts.append(_count(changed, "changed file") if changed else "with changes")
    elif git.get("dirty") is None:
        parts.append("changes unknown")
    if untracked:
        parts.append(_count(untracked, "untracked code file"))
    return ", ".join(parts) + (f" ({printable(git['problem'])})" if git.get("problem") else "")


def flat_provenance(about: StoredRecord, found: Config) -> dict[str, Setting]:
    """Code, packages and machine of a run as settings, `package.numpy` -> 2.1; found: from `read_provenance`."""
    git = about["git"] or {}
    code = about.get("code")
    flat: dict[str, Setting] = {"git": git.get("commit"), "git.branch": git.get("branch")}
    flat["git.changes"] = _changes(git)
    flat["code of mmctl"] = code[:SHOWN] if isinstance(code, str) else None
    if (files := found.get("git")) and isinstance(files, dict):
        for one in _tables(files.get("untracked")):
            digest = one.get("sha256")
            size = f"{one.get('bytes')} bytes"
            flat[f"untracked.{one.get('path')}"] = digest[:SHOWN] if isinstance(digest, str) else size
    for key, prefix in (("hardware", "environment"), ("torch", "torch"), ("variables", "variable")):
        part = found.get(key)
        flat |= flatten(part, prefix) if isinstance(part, dict) and part else {}
    return flat | {f"package.{name}": version for name, version in packages_of(found).items()}


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
        ("untracked", [str(one.get("path")) for one in _tables(files.get("untracked"))]),
    ):
        for name in names[:SHOWN]:
            print_line(out, f"  {title:<17} {printable(name)}")
        if len(names) > SHOWN:
            print_line(out, f"  {title:<17} ... and {len(names) - SHOWN} more")
    if whole(files.get("patch_bytes")):
        print_line(out, f"  {'patch':<17} {printable(run['folder'])}/code.patch")


def _changes(git: Mapping[str, Setting]) -> Setting:
    if git.get("dirty") is None:
        return None
    patch = git.get("patch")
    text = f", patch {patch[:SHOWN]}" if isinstance(patch, str) else ""
    return (_count(whole(git.get("changed")), "file") + text) if git["dirty"] else "none"


def _count(number: int | None, what: str) -> str:
    return f"{'?' if number is None else number} {what}{'s' * (number != 1)}"


def _joined(value: Setting) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(value: Setting) -> Config:
    return value if isinstance(value, dict) else {}


def _tables(value: Setting) -> list[Config]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
