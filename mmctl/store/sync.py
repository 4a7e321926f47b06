"""Brings the database up to date with the run folders, and judges which runs have lost their process."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from mmctl.errors import EnvironmentFault
from mmctl.run_folder import lease
from mmctl.run_folder.values import whole
from mmctl.store import importer, run_row
from mmctl.store.connection import Waiting, transaction
from mmctl.text import printable

Progress = Callable[[int, int], None]
"""Called with the number of run folders that were read, and of those to be read."""


FEW = 500
"""So many runs are looked up by their names."""
HOLD = 0.2
"""Seconds after which a transaction ends, while many runs are imported."""


class Sync:
    """Imports run folders through one connection."""

    def __init__(self, conn: sqlite3.Connection, runs_dir: Path, waiting: Waiting) -> None:
        self.conn, self.runs_dir, self.waiting = conn, runs_dir, waiting

    def run(self, only: Iterable[str] | None, progress: Progress, newest: int | None = None) -> None:
        """Import what is new in the run folders (or those in `only`); remove runs whose folder was deleted.

        newest: of the runs that are known, look only into the folders of so many, and of those that may change by
        themselves.
        """
        if only is None:
            present, strange = self._folders()
            uids = {uid for (uid,) in self.conn.execute("SELECT uid FROM runs")}
            for uid in uids - present - self._name_strange(strange):
                if os.path.lexists(self.runs_dir / uid):  # a link whose folder is not there now
                    present.add(uid)
                else:
                    with transaction(self.conn, self.waiting):
                        run_row.delete_run(self.conn, uid)
        else:
            present = set(only)
        looked = present
        if only is None and newest is not None:
            changing = "state IN ('running', 'queued') OR unreadable IS NOT NULL"
            last = "SELECT uid FROM (SELECT uid FROM runs ORDER BY created DESC, uid DESC LIMIT ?)"
            sql = f"SELECT uid FROM runs WHERE {changing} UNION {last}"
            looked = (present - uids) | (present & {uid for (uid,) in self.conn.execute(sql, [newest])})
        known = self._known(looked)
        base = str(self.runs_dir)
        new = [uid for uid in sorted(looked) if uid not in known or importer.stale(f"{base}/{uid}", *known[uid])]
        done = 0
        while done < len(new):
            # Many runs in one transaction are faster; others that write need not wait long for it.
            end = time.monotonic() + HOLD
            with transaction(self.conn, self.waiting):
                self._import(self.runs_dir / new[done])
                done += 1
                while done < len(new) and time.monotonic() < end:
                    self._import(self.runs_dir / new[done])
                    done += 1
            progress(done, len(new))
        live = "SELECT uid, state FROM runs WHERE state IN ('running', 'queued')"
        for uid, state in self.conn.execute(live).fetchall():
            # A queued run has no lease before it starts; a sweep has hundreds of them.
            if uid in present and (state == "running" or os.path.lexists(f"{base}/{uid}/{lease.FILE}")):
                self._judge(self.runs_dir / uid)

    def _import(self, folder: Path) -> bool:
        """Import one run, inside a transaction; returns whether anything was new."""
        self.conn.execute("SAVEPOINT run")
        news = False
        try:
            news = importer.import_run(self.conn, folder)
        except (OSError, ValueError) as error:
            self.conn.execute("ROLLBACK TO run")
            if os.path.lexists(folder):
                fault = f"{getattr(error, 'filename', None) or folder}: cannot be read"
                run_row.mark_unreadable(self.conn, folder, f"{fault} ({getattr(error, 'strerror', None) or error}).")
            else:  # removed while we looked
                run_row.delete_run(self.conn, folder.name)
        self.conn.execute("RELEASE run")
        return news

    def _known(self, uids: Collection[str]) -> dict[str, tuple[int, str, dict[int, int]]]:
        known: dict[str, tuple[int, str, dict[int, int]]] = {}
        sql = "SELECT uid, folder_ns, signature, files.attempt, size FROM runs LEFT JOIN files ON run = id"
        few = list(uids) if len(uids) <= FEW else []
        sql += f" WHERE uid IN ({', '.join('?' * len(few))})" if few else ""
        for uid, folder_ns, signature, attempt, size in self.conn.execute(sql, few):
            sizes = known.setdefault(uid, (folder_ns, signature, {}))[2]
            if attempt is not None:
                sizes[attempt] = size
        return known

    def _folders(self) -> tuple[set[str], set[str]]:
        """The names of the folders of runs; and of those that no message or database can hold as they are."""
        try:
            with os.scandir(self.runs_dir) as entries:
                found = {e.name for e in entries if e.name[0] != "." and _is_folder(e)}
        except FileNotFoundError:
            found = set()
        except OSError as error:
            raise EnvironmentFault(f"{self.runs_dir}: cannot be read ({error.strerror}).") from None
        strange = {name for name in found if not name.isprintable()}
        return found - strange, {n for n in strange if os.path.lexists(f"{self.runs_dir}/{n}/run.json")}

    def _name_strange(self, names: set[str]) -> set[str]:
        """List runs whose folders have names that are not printable, as unreadable; returns their escaped names."""
        folders = {self.runs_dir / printable(name) for name in names}
        for shown in folders:
            with transaction(self.conn, self.waiting):
                fault = f"{shown}: its name has characters that cannot be printed. Rename the folder."
                run_row.mark_unreadable(self.conn, shown, fault)
        return {shown.name for shown in folders}

    def _judge(self, folder: Path) -> None:
        """Mark a run as crashed if its process is gone."""
        while lease.holder(folder) is None:
            # A run that just ended released its lease after its last event: import once more.
            with transaction(self.conn, self.waiting):
                news = self._import(folder)
            if news:
                continue
            left = lease.read(folder)
            sql = "SELECT id, state, step, host, boot, beat, attempt FROM runs WHERE uid = ?"
            run = self.conn.execute(sql, [folder.name]).fetchone()
            if run is None or run["state"] not in ("running", "queued") or (run["state"] == "queued" and left is None):
                return
            left = left or {}
            boot, host = left.get("boot", run["boot"]), left.get("host", run["host"])
            step = max(run["step"], whole(left.get("step")) or 0)
            if boot == lease.boot():
                reason = f"process gone at step {step}"
            elif host == lease.host():
                reason = f"machine restarted at step {step}"
            else:
                self._watch(run, whole(left.get("beat")) or 0)
                return
            with transaction(self.conn, self.waiting):
                # Only if no other process has written something newer.
                to = "UPDATE runs SET state = 'crashed', reason = ? WHERE id = ? AND attempt = ? AND state = ?"
                self.conn.execute(to, [reason, run["id"], run["attempt"], run["state"]])
            return

    def _watch(self, run: sqlite3.Row, beat: int) -> None:
        if beat != run["beat"]:
            with transaction(self.conn, self.waiting):
                to = "UPDATE runs SET beat = ?, beat_seen = ? WHERE id = ?"
                self.conn.execute(to, [beat, lease.now(), run["id"]])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
