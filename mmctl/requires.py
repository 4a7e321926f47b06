"""Versions of `[requires]`: the part of Python's version rules that recipes need."""

from __future__ import annotations

import re

import mmctl

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)[-_.]?(dev|a|alpha|b|beta|c|rc|post)?[-_.]?(\d*)(?:[.+].*)?", re.I)
_CLAUSE = re.compile(r"(==|!=|>=|<=|>|<|~=)\s*([0-9][\w.+-]*?)(\.\*)?")
_STAGES = {"dev": -4, "a": -3, "alpha": -3, "b": -2, "beta": -2, "c": -1, "rc": -1, "": 0, "post": 1}

Key = tuple[tuple[int, ...], int, int]


def key(version: str) -> Key:
    """A version as something that sorts: 1.0.dev1 < 1.0rc1 < 1.0 = 1.0.0 < 1.0.post1."""
    found = _VERSION.fullmatch(version.strip())
    if not found:
        return (), 0, 0
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers), _STAGES[(found[2] or "").lower()], int(found[3] or 0)


def wrong(specifier: str) -> str | None:
    """What is wrong with a specifier as a text, or None."""
    for clause in specifier.split(","):
        found = _CLAUSE.fullmatch(clause.strip())
        if not found or (found[3] and found[1] not in ("==", "!=")) or (found[1] == "~=" and "." not in found[2]):
            return 'must be versions such as ">=0.1,<0.2" or "==0.3.*"'
    return None


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version is among those that a specifier names."""
    return all(_holds(version, clause.strip()) for clause in specifier.split(","))


def _holds(version: str, clause: str) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if not found:
        return False
    sign, asked, star = found.groups()
    if star:
        return _starts(version, asked) is (sign == "==")
    have, want = key(version), key(asked)
    if sign == "~=":
        return have >= want and _starts(version, asked.rpartition(".")[0])
    if sign == "<" and want[1] >= 0 > have[1] and have[0] == want[0]:
        return False  # 0.2.dev1 is not what "<0.2" means
    return {
        "==": have == want,
        "!=": have != want,
        ">=": have >= want,
        "<=": have <= want,
        ">": have > want,
        "<": have < want,
    }[sign]


def _starts(version: str, prefix: str) -> bool:
    wanted = [int(part) for part in prefix.split(".") if part.isdigit()]
    numbers = list(key(version)[0])
    numbers += [0] * (len(wanted) - len(numbers))
    return numbers[: len(wanted)] == wanted


def installed(distribution: str) -> str | None:
    """The version of a distribution that is installed, or None."""
    if distribution == "mmctl":
        return mmctl.__version__
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except (PackageNotFoundError, ValueError):
        return None
