"""The columns of `mmctl ls`: the usual ones, and those that `--columns` names.

A name is one of COLUMNS, a metric such as test/nll@min, or a setting such as cfg.optimizer.lr.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mmctl.errors import UserError, suggest
from mmctl.report.console import figure
from mmctl.report.results import ListingRow
from mmctl.report.sheet import Sheet
from mmctl.run_folder import lease
from mmctl.run_folder.upgrade import Setting
from mmctl.run_folder.values import flatten
from mmctl.store.metrics import check_metric, metric_values, parse_metric, short_name
from mmctl.store.read_curves import read_curves
from mmctl.store.rows import RunFacts, RunRow
from mmctl.store.select import setting
from mmctl.store.store import Store
from mmctl.text import duration, local_time, printable, to_json

SPARK = 12
"""Characters of a curve in a line."""
MOST_SPARKS = 200
"""A longer listing has no curves unless they are asked for: reading them would take longer than all the rest."""
SHORT, SHORTER = 100, 60
"""Below these widths of the terminal, ids and the title of the result are shorter."""
USUAL = (
    "number", "run", "state", "step", "curve", "result", "balanced", "age", "left", "rate", "labels", "seed", "method",
    "name", "marks", "tags", "reason",
)  # fmt: skip
FILED = (
    "number", "run", "name", "recipe", "method", "labels", "seed", "state", "reason", "step", "steps", "result",
    "balanced", "created", "seconds", "marks", "tags",
)  # fmt: skip
"""The usual columns of a file, for programs."""
RANKS = {
    "run": 1, "step": 2, "curve": 4, "balanced": 6, "age": 5, "left": 3, "rate": 9, "labels": 7, "seed": 10,
    "method": 8, "name": 11, "marks": 12, "tags": 13, "reason": 14,
}  # fmt: skip
"""What is left out first on a narrow terminal: the highest."""


@dataclass(frozen=True)
class ListColumn:
    """A column: its value for programs and what people see of it, for each line of the listing."""

    name: str
    title: str
    value: Callable[[ListingRow], Setting]
    text: Callable[[ListingRow], str]
    right: bool = False
    rank: int = 0


def shown_state(row: RunFacts) -> str:
    """The state for people: `running?` without a heartbeat from another machine."""
    state = "running?" if row["silent"] else printable(row["state"])
    return f"{state}, altered" if row["altered"] else state


def seconds_of(row: RunFacts) -> float | None:
    """From the first start to the end, or until now."""
    if row["started"] is None:
        return None
    end = row["ended"] or (lease.now() if row["state"] == "running" else None)
    return max(0.0, (end - row["started"]) / 1000) if end is not None else None


def marks_of(row: RunFacts) -> list[Setting]:
    """`star`, if it has one, and `archived`, if it is."""
    return [*(["star"] if row["starred"] else []), *(["archived"] if row["archived"] else [])]


def _time(t: int | None) -> str | None:
    try:
        return None if t is None else datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def _long(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _plain(name: str, title: str, value: Callable[[ListingRow], Setting], right: bool = False) -> ListColumn:
    return ListColumn(name, title, value, lambda row: _word(value(row)), right)


def _word(value: Setting) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return printable(" ".join(map(str, value)))
    return "" if value is None else printable(value).removeprefix("mmctl:")


COLUMNS: Mapping[str, ListColumn] = {
    one.name: one
    for one in (
        _plain("number", "#", lambda row: row["number"], True),
        _plain("run", "run", lambda row: row["uid"]),
        ListColumn("state", "state", lambda row: row["state"], shown_state),
        ListColumn(
            "step", "step", lambda row: row["step"], lambda row: f"{row['step']}/{row['total_steps'] or '?'}", True
        ),
        _plain("steps", "steps", lambda row: row["total_steps"], True),
        ListColumn(
            "result", "result", lambda row: row["value"], lambda row: figure(row["value"], row["metric"]), True
        ),
        ListColumn(
            "balanced", "balanced", lambda row: row["balanced_accuracy"],
            lambda row: figure(row["balanced_accuracy"]), True,
        ),
        ListColumn(
            "age", "age", lambda row: (lease.now() - row["created"]) / 1000,
            lambda row: duration((lease.now() - row["created"]) / 1000), True,
        ),
        ListColumn("left", "left", lambda row: row["eta"], lambda row: _long(row["eta"]), True),
        ListColumn(
            "rate", "steps/s", lambda row: row["rate"], lambda row: f"{row['rate']:.3g}" if row["rate"] else "", True
        ),
        ListColumn("labels", "labels", lambda row: row["labeled"], lambda row: str(row["labeled"] or ""), True),
        ListColumn(
            "seed", "seed", lambda row: row["seed"], lambda row: "" if row["seed"] is None else str(row["seed"]), True
        ),
        _plain("method", "method", lambda row: row["method"]),
        ListColumn(
            "name", "name", lambda row: row["name"],
            lambda row: printable(row["name"]) if row["name"] not in row["uid"] else "",
        ),
        _plain("marks", "marks", marks_of),
        _plain("tags", "tags", lambda row: list(row["tags"])),
        _plain("sweeps", "sweeps", lambda row: list(row["sweeps"])),
        _plain("reason", "reason", lambda row: row["reason"]),
        _plain("recipe", "recipe", lambda row: row["recipe"]),
        _plain("labeler", "labeler", lambda row: row["labeler"]),
        _plain("config", "config", lambda row: row["config_id"]),
        _plain("host", "host", lambda row: row["host"]),
        _plain("device", "device", lambda row: row["device"]),
        _plain("precision", "precision", lambda row: row["precision"]),
        _plain("threads", "threads", lambda row: row["threads"], True),
        _plain("attempt", "attempt", lambda row: row["attempt"], True),
        _plain("exact", "exact", lambda row: "yes" if row["exact"] else "no"),
        ListColumn("created", "created", lambda row: _time(row["created"]), lambda row: local_time(row["created"])),
        ListColumn("started", "started", lambda row: _time(row["started"]), lambda row: local_time(row["started"])),
        ListColumn("ended", "ended", lambda row: _time(row["ended"]), lambda row: local_time(row["ended"])),
        ListColumn("seconds", "took", seconds_of, lambda row: _long(seconds_of(row)), True),
        _plain("data", "data", lambda row: (row["data_hash"] or "")[:12] or None),
        _plain("split", "split", lambda row: (row["split_hash"] or "")[:12] or None),
    )
}  # fmt: skip
"""By name; `curve` and what --columns can name besides need the store."""
KNOWN = (*COLUMNS, "curve")


def parse_columns(text: str | None, usual: Sequence[str]) -> list[str]:
    """`a,b` are these columns, `+a,b` the usual ones and these."""
    if text is None:
        return list(usual)
    more = text.startswith("+")
    asked = [part.strip() for part in text.removeprefix("+").split(",") if part.strip()]
    if not asked:
        raise UserError(f"--columns: names no column. Known: {', '.join(KNOWN)}, a metric, cfg.TABLE.KEY")
    return list(dict.fromkeys([*(usual if more else ()), *asked]))


def sheet_of(rows: Sequence[ListingRow], columns: Sequence[ListColumn]) -> Sheet:
    """The listing as people see it, without the columns that are empty."""
    texts = {one.name: [one.text(row) for row in rows] for one in columns}
    filled = [one for one in columns if any(texts[one.name])]
    cells = [[texts[one.name][n] for one in filled] for n in range(len(rows))]
    return Sheet("", [one.title for one in filled], cells, [one.right for one in filled])


def records_of(rows: Sequence[ListingRow], columns: Sequence[ListColumn]) -> Iterator[Sequence[object]]:
    """A line for each run with the values as they are stored: shares from 0 to 1, times as ISO 8601 in UTC."""
    yield [one.name for one in columns]
    for row in rows:
        yield [_raw(one.value(row)) for one in columns]


def _raw(value: Setting) -> object:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(map(str, value))
    return to_json(value) if isinstance(value, (bool, list, dict)) else value


def columns_of(
    store: Store,
    runs: Sequence[RunRow],
    names: Sequence[str],
    spark: Callable[[Sequence[float]], str],
    *,
    chosen: bool = False,
    width: int | None = None,
) -> list[ListColumn]:
    """The columns of these names for these runs.

    chosen: a person named them, so the first ones are the last to go; width: of the terminal.
    """
    found = []
    for place, name in enumerate(names):
        if name == "curve" and not chosen and len(runs) > MOST_SPARKS:
            continue
        made = _curve(store, runs, spark) if name == "curve" else COLUMNS.get(name) or _asked(store, runs, name)
        if name == "run" and width is not None and width < SHORT:
            made = replace(made, text=_short_uid(runs, width < SHORTER))
        if name == "result":
            title = _result(runs)
            made = replace(made, title=title.rpartition("/")[2] if width is not None and width < SHORTER else title)
        found.append(replace(made, rank=place if chosen else RANKS.get(name, 0)))
    return found


def _short_uid(runs: Sequence[RunRow], shorter: bool) -> Callable[[ListingRow], str]:
    """The id of a run without the time with which it begins, enough to name it; shorter: without its last digits."""
    short = {run["uid"]: re.sub(r"^\d{8}-\d{6}-(?=...)", "", run["uid"]) for run in runs}
    if len(set(short.values())) < len(short):
        return COLUMNS["run"].text
    if shorter:
        short = {uid: re.sub(r"(?<=...)-[0-9a-f]{4,8}$", "", one) for uid, one in short.items()}
    return lambda row: printable(short[row["uid"]])


def _result(runs: Sequence[RunRow]) -> str:
    names = {short_name(run["primary_metric"]) for run in runs}
    return names.pop() if len(names) == 1 else "primary"


def _curve(store: Store, runs: Sequence[RunRow], spark: Callable[[Sequence[float]], str]) -> ListColumn:
    uids = {run["id"]: run["uid"] for run in runs}
    primary = {run["id"]: run["primary_metric"] for run in runs}
    curves = read_curves(store, runs, set(primary.values()), SPARK, apart=True)
    drawn = {
        uids[id]: spark([value for _, value in curve]) for (id, name), curve in curves.items() if name == primary[id]
    }
    return ListColumn("curve", "curve", lambda row: drawn.get(row["uid"]), lambda row: drawn.get(row["uid"], ""))


def _asked(store: Store, runs: Sequence[RunRow], name: str) -> ListColumn:
    """A column of a metric or a setting."""
    uids = {run["id"]: run["uid"] for run in runs}
    values = {uids[id]: value for id, value in asked_values(store, runs, name, "--columns").items()}
    if name.startswith("cfg."):
        numbers = all(isinstance(value, (int, float)) for value in values.values())
        return ListColumn(
            name, name.removeprefix("cfg."), lambda row: values.get(row["uid"]),
            lambda row: _word(values.get(row["uid"])), numbers,
        )  # fmt: skip
    plain = name.partition("@")[0]

    def text(row: ListingRow) -> str:
        value = values.get(row["uid"])
        return figure(value, plain) if isinstance(value, (int, float)) else ""

    return ListColumn(name, name, lambda row: values.get(row["uid"]), text, True)


def asked_values(store: Store, runs: Sequence[RunRow], name: str, option: str) -> dict[int, Setting]:
    """A metric or a setting of each run that has it, by id."""
    if name.startswith("cfg."):
        configs = store.configs(runs)
        found = {run["id"]: setting(configs[run["id"]], name[4:]) for run in runs}
        if runs and all(value is None for value in found.values()):
            known = {f"cfg.{key}" for config in configs.values() for key in flatten(config)}
            raise UserError(f'{option} "{name}": no run has this setting.{suggest(name, known)}')
        return {id: value for id, value in found.items() if value is not None}
    if "/" in name or "@" in name:
        check_metric(store, runs, one := parse_metric(name))
        return dict(metric_values(store, runs, one)[0])
    raise UserError(
        f'{option} "{name}": no such column.{suggest(name, KNOWN)} Known: {", ".join(KNOWN)}, a metric such as '
        "test/nll@min, a setting such as cfg.optimizer.lr"
    )
