"""Pages as files: only files that are pages of a report are replaced, and only if something changed."""

from __future__ import annotations

import re
from pathlib import Path

from mmctl.errors import UserError
from mmctl.filesystem import write_atomic
from mmctl.page.html import MARK
from mmctl.text import printable

HEAD = 4096
"""The mark and the digest of a page stand within so many bytes of its beginning."""


def check_place(path: Path, force: bool = False) -> None:
    """UserError if a page cannot be written there, or would replace a file that is not one; force: replace it."""
    if path.is_dir():
        raise UserError(
            f"{printable(path)}: is a folder. Name a file in it, such as {printable(path / 'report.html')}."
        )
    if not path.parent.is_dir():
        raise UserError(f"{printable(path)}: the folder {printable(path.parent)} does not exist. Make it first.")
    if not force and path.exists() and not is_page(path):
        raise UserError(f"{printable(path)}: is not a page of mmctl report. Name another file, or --force replaces it.")


def is_page(path: Path) -> bool:
    """Whether a file is a page that `mmctl report` wrote."""
    return MARK.encode() in _head(path)


def digest_of(path: Path) -> str:
    """The digest of what a page was made from; empty if there is no page, or parts of it were missing."""
    found = re.search(rb'<meta name="mmctl-input" content="([0-9a-f]{64})">', _head(path))
    return found[1].decode() if found else ""


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEAD)


def write_page(path: Path, html: str) -> bool:
    """Write a page, unless it is there already; returns whether it was written."""
    content = html.encode("ascii", "xmlcharrefreplace")
    if path.is_file() and path.read_bytes() == content:
        return False
    write_atomic(path, content)
    return True
