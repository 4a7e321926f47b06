"""Downloads, from a server on this machine that behaves well or badly, and archives that want to write elsewhere."""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import json
import re
import socket
import tarfile
import threading
import urllib.error
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mmctl.cli import data_get
from mmctl.datasets import cifar, eurosat, stl10, svhn
from mmctl.download import fetch as fetching
from mmctl.download import published
from mmctl.download.fetch import fetch
from mmctl.download.get import get
from mmctl.download.published import SETS, PublishedSet, RemoteFile
from mmctl.download.unpack import unpack
from mmctl.errors import EnvironmentFault, UserError

DATA = bytes(range(256)) * 4000
"""A file of a megabyte: several blocks."""


class Server(ThreadingHTTPServer):
    """Serves DATA under every path; `cuts` bytes at a time, then the connection ends."""

    daemon_threads = True
    ranges = True
    cuts: list[int]
    status = 200
    body = DATA
    silent_length = False
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if start >= len(server.body):
            self.send_error(416)
            return
        self.send_response(206 if start or (wanted and server.ranges) else 200)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        if not server.silent_length:
            self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        body = server.body[start:]
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.cuts, made.asked = [], []
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def remote(server: Server, data: bytes = DATA, name: str = "a.bin") -> RemoteFile:
    url = f"http://127.0.0.1:{server.server_port}/{name}"
    return RemoteFile(name, (url,), len(data), hashlib.sha256(data).hexdigest())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    file = remote(server)
    assert fetch(file, tmp_path, lambda *at: seen.append(at)) == "downloaded"
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert names(tmp_path) == ["a.bin"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert [at for at, _ in seen] == sorted({at for at, _ in seen})
    assert fetch(file, tmp_path) == "already there"
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued_by_the_next_call(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    (tmp_path / "a.bin.part").write_bytes(DATA[:300_000])
    assert fetch(remote(server), tmp_path) == "continued"
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.asked == ["bytes=300000-"]
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("silent_length", [False, True])
def test_a_connection_that_breaks_off_is_continued_at_once(server: Server, tmp_path: Path, silent_length: bool) -> None:
    server.cuts, server.silent_length = [300_000, 0, 200_000], silent_length
    assert fetch(remote(server), tmp_path, pause=0) == "downloaded"
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.asked == [None, "bytes=300000-", "bytes=300000-", "bytes=500000-"]


def test_a_server_that_sends_nothing_more_is_left_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000] + [0] * 50
    with pytest.raises(EnvironmentFault, match=r"300,000 of 1,024,000 bytes are there; run this again"):
        fetch(remote(server), tmp_path, pause=0)
    assert (tmp_path / "a.bin.part").read_bytes() == DATA[:300_000]
    assert len(server.asked) == fetching.TRIES + 1
    server.cuts = []
    assert fetch(remote(server), tmp_path) == "continued"


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, fetching.TRIES)])
def test_an_error_of_the_server_is_named(server: Server, tmp_path: Path, status: int, asked: int) -> None:
    server.status = status
    with pytest.raises(
        EnvironmentFault, match=rf"HTTP {status} (?s:.*)was not downloaded. By hand: put it into"
    ) as raised:
        fetch(remote(server), tmp_path, pause=0)
    assert f":{server.server_port}/a.bin" in str(raised.value)
    assert len(server.asked) == asked
    assert names(tmp_path) == []


def test_the_second_address_is_tried(server: Server, tmp_path: Path) -> None:
    file = remote(server)
    file = replace(file, urls=("http://127.0.0.1:1/a.bin", "file:///etc/passwd", *file.urls))
    assert fetch(file, tmp_path, pause=0) == "downloaded"
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_the_second_address_begins_anew_if_the_first_sent_another_file(server: Server, tmp_path: Path) -> None:
    bad = Server(("127.0.0.1", 0), Handler)
    bad.cuts, bad.asked, bad.body = [300_000] + [0] * 50, [], bytes(len(DATA))
    threading.Thread(target=bad.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    file = remote(server)
    assert fetch(replace(file, urls=(*remote(bad).urls, *file.urls)), tmp_path, pause=0) == "downloaded"
    bad.shutdown()
    bad.server_close()
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.asked == ["bytes=300000-", None]


def test_a_network_that_fails_in_a_read_is_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, fails = http.client.HTTPResponse.read, [errno.EHOSTUNREACH, errno.ENETUNREACH]

    def unsteady(self: http.client.HTTPResponse, amount: int | None = None) -> bytes:
        if fails:
            raise OSError(fails.pop(), "No route to host")
        return read(self, amount)

    monkeypatch.setattr(http.client.HTTPResponse, "read", unsteady)
    assert fetch(remote(server), tmp_path, pause=0) == "downloaded"
    assert len(server.asked) == 3


def test_without_a_network_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def nowhere(*args: object, **keys: object) -> None:
        asked.append(args)
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.urlopen", nowhere)
    file = RemoteFile("a.bin", ("https://nowhere.invalid/a.bin",), 10, "0" * 64)
    with pytest.raises(EnvironmentFault, match=r"Name or service not known. Is there a network\?"):
        fetch(file, tmp_path)
    assert len(asked) == 1


def test_another_content_is_refused(server: Server, tmp_path: Path) -> None:
    file = replace(remote(server), sha256="0" * 64)
    with pytest.raises(EnvironmentFault, match=f"SHA-256 {hashlib.sha256(DATA).hexdigest()}, not 0000"):
        fetch(file, tmp_path)
    assert names(tmp_path) == []


def test_a_start_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"x" * 300_000)
    assert fetch(remote(server), tmp_path) == "downloaded"
    assert (tmp_path / "a.bin").read_bytes() == DATA
    (tmp_path / "a.bin").rename(tmp_path / "old")
    (tmp_path / "a.bin.part").write_bytes(DATA + b"more")
    assert fetch(remote(server), tmp_path) == "continued"
    assert (tmp_path / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize("silent_length", [False, True])
def test_a_file_of_another_size_is_refused(server: Server, tmp_path: Path, silent_length: bool) -> None:
    server.body, server.silent_length = DATA + b"more", silent_length
    with pytest.raises(EnvironmentFault, match=r"published file 1,024,000|more than the 1,024,000"):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "a.bin").exists()
    server.body = DATA[:1000]
    (tmp_path / "a.bin.part").write_bytes(DATA[:300_000])
    with pytest.raises(EnvironmentFault):  # 416: shorter than what is there
        fetch(remote(server), tmp_path, pause=0)


def test_a_file_of_the_user_is_not_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match="is not the published file"):
        fetch(remote(server), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


# Archives


def tar(path: Path, *members: tuple[str, bytes | str], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = kind, data
                opened.addfile(info)
            else:
                info.size = len(data)
                opened.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, *members: tuple[str, bytes], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, data)
    return path


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_is_unpacked(tmp_path: Path, kind: Any) -> None:
    members = (("set/a.bin", DATA), ("set/deep/b.txt", b"two"), ("readme", b""))
    archive = tar(tmp_path / "x", *members) if kind == "tar" else zipped(tmp_path / "x", *members)
    assert unpack(archive, kind, tmp_path, 2 * len(DATA)) == ["readme", "set"]
    assert (tmp_path / "set" / "a.bin").read_bytes() == DATA
    assert (tmp_path / "set" / "deep" / "b.txt").read_bytes() == b"two"
    assert names(tmp_path) == ["readme", "set", "x"]
    with pytest.raises(UserError, match="is there already"):
        unpack(archive, kind, tmp_path, 2 * len(DATA))


BAD_NAMES = ("../evil", "/evil", "set/../../evil", "..\\evil", "C:evil")


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_no_member_leads_out_of_the_folder(tmp_path: Path, name: str, kind: Any) -> None:
    folder = tmp_path / "inner" / "data"
    folder.mkdir(parents=True)
    make: Callable[..., Path] = tar if kind == "tar" else zipped
    archive = make(folder / "x", ("good", b"good"), (name, b"bad"))
    with pytest.raises(UserError, match="outside of it, so nothing was unpacked"):
        unpack(archive, kind, folder, 1000)
    assert names(folder) == ["x"]
    assert names(tmp_path) == ["inner"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tar(tmp_path / "x", ("set/a", b"good"), ("set/link", "/etc/passwd"), kind=kind)
    with pytest.raises(UserError, match="link or a device"):
        unpack(archive, "tar", tmp_path, 1000)
    assert names(tmp_path) == ["x"]


def test_links_in_zip_files_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x", ("set/link", b"/etc/passwd"), mode=0o120777)
    with pytest.raises(UserError, match="is a link"):
        unpack(archive, "zip", tmp_path, 1000)
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_bomb_and_a_damaged_archive(tmp_path: Path, kind: Any) -> None:
    make: Callable[..., Path] = tar if kind == "tar" else zipped
    archive = make(tmp_path / "x", ("a", bytes(10_000_000)))
    with pytest.raises(UserError, match="more than 1,000,000 bytes"):
        unpack(archive, kind, tmp_path, 1_000_000)
    archive.write_bytes(make(tmp_path / "y", ("a", DATA)).read_bytes()[:-600])
    (tmp_path / "y").unlink()
    with pytest.raises(UserError, match="damaged"):
        unpack(archive, kind, tmp_path, 20_000_000)
    assert names(tmp_path) == ["x"]


# The command


@pytest.fixture
def offered(server: Server, monkeypatch: pytest.MonkeyPatch) -> PublishedSet:
    """A published set `tiny`: an archive that the server has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        info = tarfile.TarInfo("tiny/one.bin")
        info.size = 1000
        opened.addfile(info, io.BytesIO(bytes(1000)))
    server.body = buffer.getvalue()
    made = PublishedSet(
        "Tiny",
        "free",
        (remote(server, server.body, "tiny.tar.gz"),),
        kind="tar",
        makes=("tiny",),
        unpacked=2000,
        at_least=1000,
    )
    monkeypatch.setitem(SETS, "tiny", made)
    return made


def mmctl(*words: object) -> Any:
    app = typer.Typer()
    app.command()(data_get.get)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command(offered: PublishedSet, server: Server, tmp_path: Path) -> None:
    done = mmctl("tiny", "--json")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "data" / "tiny"
    assert json.loads(done.stdout) == {
        "schema_version": 1, "name": "tiny", "folder": str(folder),
        "files": {"tiny.tar.gz": "downloaded"}, "unpacked": ["tiny"],
    }  # fmt: skip
    assert names(folder) == ["tiny"]
    again = mmctl("tiny")
    assert "tiny.tar.gz unpacked already" in again.stdout
    assert len(server.asked) == 1
    kept = mmctl("tiny", "--to", tmp_path / "other", "--keep")
    assert names(tmp_path / "other") == ["tiny", "tiny.tar.gz"]
    assert "unpacked: tiny" in kept.stdout
    assert "Tiny, 0 MiB; free" in kept.stderr


def test_space_is_checked_first(offered: PublishedSet, server: Server, tmp_path: Path) -> None:
    SETS["tiny"] = replace(offered, unpacked=10**18)
    with pytest.raises(EnvironmentFault, match=r"MiB are needed for Tiny, but .* MiB are free"):
        get("tiny", tmp_path / "data")
    assert server.asked == []
    assert names(tmp_path) == [], "an empty folder would look like a data set"


def test_half_a_copy_is_said_before_the_download(offered: PublishedSet, server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "one.bin").write_bytes(bytes(999))
    with pytest.raises(
        UserError, match=r"tiny: is there, but not complete \(999 bytes, Tiny has 1,000 or more\). Move"
    ):
        get("tiny", tmp_path)
    assert server.asked == []
    (tmp_path / "tiny" / "one.bin").write_bytes(bytes(1000))
    (tmp_path / "tiny.tar.gz").write_bytes(b"kept by the user")
    assert get("tiny", tmp_path).files == {"tiny.tar.gz": "unpacked already"}
    assert names(tmp_path) == ["tiny", "tiny.tar.gz"]
    (tmp_path / ".tiny.tar.gz.unpacking" / "tiny").mkdir(parents=True)  # of a process that was killed after it
    assert get("tiny", tmp_path).files == {"tiny.tar.gz": "unpacked already"}
    assert names(tmp_path) == ["tiny"]
    assert all(one.at_least for one in SETS.values() if one.kind != "files")


def test_a_file_system_without_locks(offered: PublishedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", none)
    assert get("tiny", tmp_path).unpacked == ["tiny"]


def test_another_address(offered: PublishedSet, server: Server, tmp_path: Path) -> None:
    SETS["tiny"] = replace(offered, files=(replace(offered.files[0], urls=("https://nowhere.invalid/x",)),))
    got = get("tiny", tmp_path, urls={"tiny.tar.gz": offered.files[0].urls[0]})
    assert got.unpacked == ["tiny"]


def test_two_downloads_into_one_folder(offered: PublishedSet, tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / ".mmctl-download.lock").touch()
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / ".mmctl-download.lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(UserError, match="another mmctl is downloading"):
            get("tiny", tmp_path)
        holder.communicate()
    assert get("tiny", tmp_path).unpacked == ["tiny"]


@pytest.mark.parametrize("name", [n for n, s in SETS.items() if not s.files])
def test_where_a_form_is_needed_the_command_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be downloaded by a program") as raised:
        get(name, tmp_path)
    assert re.search(r"https?://", str(raised.value))
    assert names(tmp_path) == []


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='Did you mean "cifar10"'):
        get("cifar_10", tmp_path)


def test_sizes_agree_with_the_data_sets() -> None:
    """The data sets and the downloads know the same files."""
    assert [f.size for f in SETS["svhn-extra"].files] == [f.size for f in (svhn.TRAIN, svhn.TEST, svhn.EXTRA)]
    assert SETS["svhn-extra"].folder == "svhn"
    stl = sum(f.size or 0 for f in (stl10.TRAIN, stl10.TRAIN_LABELS, stl10.UNLABELED, stl10.TEST, stl10.TEST_LABELS))
    assert stl < SETS["stl10"].unpacked < stl * 1.05
    for name, source in (("cifar10", cifar.SOURCE_10), ("eurosat", eurosat.SOURCE), ("stl10", stl10.SOURCE)):
        assert f"mmctl data get {name}" in source
        assert any(url in source or name == "cifar10" for url in SETS[name].files[0].urls)
    for found in published.SETS.values():
        assert bool(found.files) != bool(found.instead)
        assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) for file in found.files)
