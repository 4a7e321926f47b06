"""What a run was computed from, for `show`, `show --env` and `diff`: code, packages, machine."""

from __future__ import annotations

from collections.abc import Mapping

from mmctl.run_folder.provenance import packages_of
from mmctl.run_folder.upgrade import Config, Setting
from mmctl.run_folder.values import flatten, whole
from mmctl.store.rows import StoredRecord
from mmctl.text import printable

SHOWN = 10
"""Characters of a hash; files that are listed."""


def code_line(git: Setting) -> str:
    """`main 3ea4434391, 2 changed files, 1 untracked code file`; empty outside of a repository."""
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
        for one in tables(files.get("untracked")):
            digest = one.get("sha256")
            size = f"{one.get('bytes')} bytes"
            flat[f"untracked.{one.get('path')}"] = digest[:SHOWN] if isinstance(digest, str) else size
    for key, prefix in (("hardware", "environment"), ("torch", "torch"), ("variables", "variable")):
        part = found.get(key)
        flat |= flatten(part, prefix) if isinstance(part, dict) and part else {}
    return flat | {f"package.{name}": version for name, version in packages_of(found).items()}


def _changes(git: Mapping[str, Setting]) -> Setting:
    if git.get("dirty") is None:
        return None
    patch = git.get("patch")
    text = f", patch {patch[:SHOWN]}" if isinstance(patch, str) else ""
    return (_count(whole(git.get("changed")), "file") + text) if git["dirty"] else "none"


def _count(number: int | None, what: str) -> str:
    return f"{'?' if number is None else number} {what}{'s' * (number != 1)}"


def tables(value: Setting) -> list[Config]:
    """Those values of a list that are tables."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
