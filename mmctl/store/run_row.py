"""The row of a run from its run.json, which may come from anywhere."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmctl.run_folder.upgrade import Config
from mmctl.run_folder.values import text, whole, words
from mmctl.text import to_json

FLAT = {"name", "seed", "note"}
"""Keys of a recipe that are not tables."""


def insert_run(conn: sqlite3.Connection, uid: str, record: Config, signature: str) -> int:
    """Insert a run before anything of its journals is known; returns its row id."""
    record = _shaped(record)
    about = {key: value for key, value in record.items() if key not in ("config", "published")}
    row = {
        "uid": uid,
        "about": to_json(about),
        "config": to_json(record["config"]),
        "published": to_json(record["published"]) if record["published"] else None,
        "code_hash": text(record.get("code")) or None,
        "name": text(record.get("name")) or uid,
        "recipe": text(record.get("recipe")),
        "method": text(record.get("method")),
        "labeler": text(record.get("labeler")) or None,
        "seed": whole(record.get("seed")),
        "config_id": text(record.get("config_id")) or uid,
        "created": whole(record.get("created")) or 0,
        "total_steps": whole(record.get("total_steps")),
        "primary_metric": text(record.get("primary")) or "test/ema/head/accuracy",
        "state": "queued",
        "signature": signature,
    }
    names = ", ".join(row)
    made = conn.execute(f"INSERT INTO runs ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
    run = int(made.lastrowid or 0)
    for tag in words(record.get("tags")):
        conn.execute("INSERT OR IGNORE INTO tags VALUES (?, ?)", [run, tag])
    return run


def delete_run(conn: sqlite3.Connection, uid: str) -> None:
    """Delete a run with all that belongs to it; in pieces, so that memory does not grow with its points."""
    known = conn.execute("SELECT s.id FROM series s JOIN runs r ON r.id = s.run WHERE r.uid = ?", [uid]).fetchall()
    for (series,) in known:
        piece = "SELECT step FROM points WHERE series = ?1 ORDER BY step LIMIT 1 OFFSET 50000"
        while last := conn.execute(piece, [series]).fetchone():
            conn.execute("DELETE FROM points WHERE series = ? AND step < ?", [series, last[0]])
    conn.execute("DELETE FROM runs WHERE uid = ?", [uid])


def mark_unreadable(conn: sqlite3.Connection, folder: Path, fault: str) -> None:
    """List a run as unreadable, with what is known of it; its folder is looked at again each time."""
    if conn.execute("SELECT 1 FROM runs WHERE uid = ?", [folder.name]).fetchone() is None:
        insert_run(conn, folder.name, placeholder(folder), "")
    to = "UPDATE runs SET unreadable = ?, folder_ns = 0 WHERE uid = ? AND unreadable IS NOT ?"
    conn.execute(to, [text(fault), folder.name, text(fault)])


def placeholder(folder: Path) -> Config:
    """What stands for a record that cannot be read: its place in the listing, by the time in the folder's name."""
    try:
        made = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        made = folder.stat().st_mtime if folder.exists() else 0.0
    return {"created": int(1000 * made)}


def _shaped(record: dict[str, Any]) -> dict[str, Any]:
    """A run.json with every table checked to be a table, so that readers need not check again."""
    config, parts = record.get("config"), record.get("components")
    tables = {k: v for k, v in config.items() if isinstance(v, dict) or k in FLAT} if isinstance(config, dict) else {}
    components = [c for c in parts if isinstance(c, dict)] if isinstance(parts, list) else []
    made = record | {"config": tables, "components": components}
    for key in ("environment", "git", "published"):
        if not isinstance(made.get(key), dict):
            made[key] = None
    return made
