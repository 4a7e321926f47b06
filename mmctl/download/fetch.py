"""Downloads one file: into NAME.part, continued where it broke off, checked by size and SHA-256, then renamed."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mmctl.download.published import RemoteFile
from mmctl.errors import EnvironmentFault, UserError
from mmctl.filesystem import sync_folder
from mmctl.text import printable

BLOCK = 2**18
TIMEOUT = 30.0
"""Seconds without an answer."""
TRIES = 5
"""Times in a row that a server may break off without sending anything new."""
Progress = Callable[[int, int], None]
"""Is told the bytes that are there and the bytes of the whole file."""
State = Literal["downloaded", "continued", "already there", "unpacked already"]


class _Broken(Exception):
    """The download ended early and can be continued."""


def fetch(file: RemoteFile, folder: Path, progress: Progress | None = None, pause: float = 1.0) -> State:
    """Download `file` into `folder`; a file that is there and right is left alone.

    pause: seconds before the next try, doubled each time. EnvironmentFault if no address works, with what is there
    kept for the next call; UserError if a file of that name is there and is another.
    """
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.exists():
        if not path.is_file() or path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            raise UserError(f"{path}: is there, but is not the published file. Move it away, then run this again.")
        return "already there"
    begun = part.stat().st_size if part.is_file() else 0
    state: State = "continued" if begun else "downloaded"
    if begun > file.size:
        part.unlink()
    reasons: list[str] = []
    for url in file.urls:
        begun = part.stat().st_size if part.is_file() else 0
        try:
            _from(url, file, part, progress, pause)
            if (found := sha256_of(part)) != file.sha256 and begun:
                part.unlink()  # what was there may be of another file: once more, from the start
                state = "downloaded"
                _from(url, file, part, progress, pause)
                found = sha256_of(part)
        except EnvironmentFault as error:
            reasons.append(str(error))
            continue
        if found != file.sha256:
            part.unlink()
            reasons.append(f"{url}: another file than the published one: SHA-256 {found}, not {file.sha256}.")
            continue
        part.replace(path)
        sync_folder(folder)
        return state
    raise EnvironmentFault(*reasons, f"{file.name} was not downloaded. By hand: put it into {folder}.")


def _from(url: str, file: RemoteFile, part: Path, progress: Progress | None, pause: float) -> None:
    """All bytes from one address into `part`, in several tries if need be; EnvironmentFault if that fails."""
    left, wait, anew = TRIES, pause, False
    while True:
        before = part.stat().st_size if part.exists() else 0
        if before == file.size:
            return
        try:
            _piece(url, file, part, before, progress)
            continue
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and not anew:  # nothing follows what is there, which may be of another file
                    part.unlink(missing_ok=True)
                    anew = True
                    continue
                if error.code in (408, 425, 429) or error.code >= 500:
                    reason = f"HTTP {error.code} {printable(str(error.reason))}"
                else:
                    raise EnvironmentFault(f"{url}: HTTP {error.code} {printable(str(error.reason))}.") from None
        except (_Broken, http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            cause = getattr(error, "reason", None) or error
            reason = printable(str(cause) or type(error).__name__)
            if isinstance(cause, socket.gaierror):  # no network, or no such server: waiting does not help
                raise EnvironmentFault(f"{url}: {reason}. Is there a network?") from None
        after = part.stat().st_size if part.exists() else 0
        left, wait = (TRIES, pause) if after > before else (left - 1, wait)
        if not left:
            raise EnvironmentFault(
                f"{url}: {reason}. {after:,} of {file.size:,} bytes are there; run this again to continue."
            )
        time.sleep(wait)
        wait *= 2


def _piece(url: str, file: RemoteFile, part: Path, start: int, progress: Progress | None) -> None:
    """Append what the server sends from byte `start` on; without Range it sends all, and `part` begins anew."""
    if not url.startswith(("https://", "http://")):
        raise EnvironmentFault(f"{url}: only http and https addresses are downloaded.")
    request = urllib.request.Request(url, headers={"User-Agent": "mmctl", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        at = start if goes_on else 0
        said = answer.headers.get("Content-Length", "")
        if said.isdecimal() and at + int(said) != file.size:
            raise EnvironmentFault(
                f"{url}: the server has {at + int(said):,} bytes, the published file {file.size:,}: another file."
            )
        with part.open("ab" if goes_on else "wb") as out:
            while block := _read(answer):
                at += len(block)
                if at > file.size:
                    out.truncate(0)
                    raise EnvironmentFault(f"{url}: sends more than the {file.size:,} bytes of the published file.")
                out.write(block)
                if progress:
                    progress(at, file.size)
            out.flush()
            os.fsync(out.fileno())
    if at < file.size:
        raise _Broken("the connection broke off")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(BLOCK)
    except OSError as error:  # also no route to the host, TLS: unlike errors of the disk, the next try may go well
        raise _Broken(str(error)) from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
