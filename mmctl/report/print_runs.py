"""The pages of `ls`, `show` and `diff`, laid out for people."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from mmctl.identity import matters
from mmctl.metric_names import METRICS
from mmctl.report.console import (
    column,
    cut,
    figure,
    file_size,
    print_heading,
    print_line,
    print_list,
    print_table,
    spark,
    spread,
)  # fmt: skip
from mmctl.report.listing_columns import ListColumn, marks_of, shown_state
from mmctl.report.provenance import code_line
from mmctl.report.results import Difference, Evaluation, ListingRow, RunDetails, as_number
from mmctl.run_folder.upgrade import Setting
from mmctl.store.metrics import PEEKED, WORDS, short_name
from mmctl.text import duration, hardware_line, local_time, printable

SKIPPED = 5
"""Images that were left out, which `show` names."""
TITLES = {
    "balanced_accuracy": "balanced",
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "ece": "ECE",
    "largest_class": "largest class",
}


def print_listing(rows: Sequence[ListingRow], columns: Sequence[ListColumn], out: Console) -> None:
    """The table of `mmctl ls`, newest at the bottom."""
    print_table([column(one.title, rows, one.text, one.rank, one.right) for one in columns], out)
    used = sorted({str(row["reducer"]) for row in rows if row["reducer"]}, reverse=True)
    title = next((one.title for one in columns if one.name in ("result", "balanced")), None)
    if used and title:
        words = [WORDS[reducer] for reducer in used]
        print_line(
            out,
            f"{title}: " + (words[0] if len(words) == 1 else f"{words[0]} where there are 20, else the last"),
            "dim",
        )
    if any(row["silent"] for row in rows):
        worst = max(row["silent"] or 0 for row in rows)
        print_line(out, f"running?: on another machine, no heartbeat for up to {duration(worst)}", "dim")


def print_run(run: RunDetails, out: Console) -> None:
    """The page of `mmctl show`."""
    print_line(out, f"{printable(run['name'])}, seed {run['seed']}: {shown_state(run)}", "bold")
    for title, text in _facts(run, out):
        if text:
            print_line(out, f"{title:<10} {text}")
    for split in dict.fromkeys(one["split"] for one in run["evaluations"]):
        _print_evaluations([one for one in run["evaluations"] if one["split"] == split], printable(split), run, out)
    if run["alerts"]:
        print_heading(out, "Alerts")
        for alert in run["alerts"][-10:]:
            print_line(
                out, f"  step {alert.get('step')}  {printable(alert.get('kind'))}: {printable(alert.get('text'))}"
            )
    present = [one for one in run["checkpoints"] if one["present"]]
    if run["checkpoints"]:
        print_heading(out, f"Checkpoints ({len(present)} kept of {len(run['checkpoints'])})")
        for one in present:
            best = run["best"] is not None and run["best"]["step"] == one["step"]
            kind = "was best" if one["kind"] == "best" else printable(one["kind"])
            print_line(out, f"  {printable(one['path'])}  {file_size(one['bytes'])}  {'best' if best else kind}")
    components = [one for one in _list(run["components"]) if isinstance(one, dict)]
    if components:
        print_heading(out, "Components")
        print_table(
            [
                column("kind", components, lambda one: printable(one.get("kind"))),
                column("slot", components, lambda one: printable(one.get("slot"))),
                column("name", components, lambda one: printable(one.get("name"))),
                column("version", components, lambda one: printable(one.get("version")), 1),
                column("parameters", components, lambda one: _parameters(one.get("params")), 2),
            ],
            out,
        )


def print_difference(found: Difference, out: Console) -> None:
    """The table of `mmctl diff`; what does not change the result is marked."""
    rows = list(found["differences"].items())
    for uid, sentences in found["altered"].items():
        for sentence in sentences:
            print_line(out, f"{printable(uid)} was altered: {printable(sentence)}", "yellow")
    if not rows and found["altered"]:
        return
    if not rows:
        print_line(out, "no difference")
        return
    print_table(
        [
            column("key", rows, lambda row: printable(row[0])),
            column(cut(printable(found["titles"][0]), 32), rows, lambda row: setting(row[1][0])),
            column(cut(printable(found["titles"][1]), 32), rows, lambda row: setting(row[1][1])),
        ],
        out,
    )
    if found["same_configuration"]:
        seeds = found["differences"].get("seed", [None, None])
        print_line(out, f"same configuration{', different seed' if seeds[0] != seeds[1] else ' and seed'}", "dim")
    elif not any(matters(key) for key, row in rows if row[0] != row[1]):
        print_line(out, "the differences do not change the result", "dim")


def setting(value: Setting) -> str:
    """A value of a recipe, short; - if the key is absent."""
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else printable(value).removeprefix("mmctl:")


def _facts(run: RunDetails, out: Console) -> list[tuple[str, str]]:
    data = run["data"]
    facts = [("run", f"#{run['number']}  {printable(run['folder'])}")]
    state = f"step {run['step']} of {run['total_steps'] or '?'}"
    state += f", {duration(run['seconds'])} of training" if run["seconds"] else ""
    state += f", {run['rate']:.3g} steps/s, {duration(run['eta'] or 0)} left" if run["rate"] else ""
    state += f": {printable(run['reason'])}" if run["reason"] else ""
    facts.append(("progress", state))
    if isinstance(imported := run["imported"], dict):
        where = f"from {imported.get('program')}, id {imported.get('id')}, {imported.get('file')}"
        facts.append(("imported", printable(where)))
    facts.append(("unreadable", printable(run["unreadable"])))
    facts += [("altered", printable(one)) for one in run["altered"]]
    facts += [("journal", printable(one)) for one in run["bad_lines"]]
    resumed = [
        f"{one['n']} from step {one['from_step']} on {printable(one.get('host'))}" for one in run["attempts"][1:]
    ]
    facts.append(("attempts", ", ".join(["1", *resumed]) if resumed else ""))
    facts.append(("hardware", "; ".join(dict.fromkeys(map(hardware_line, run["attempts"])))))
    facts.append(("exact", "" if run["exact"] else "no (resumed on different hardware or software, or with changes)"))
    facts.append(
        (
            "recipe",
            f"{printable(run['recipe'])}, method {printable(run['method'])}, "
            f"labeler {printable(run['labeler']) or 'none'}",
        )
    )
    if (parent := run["parent"]) is not None:
        facts.append(("extends", f"{printable(parent['uid'])} from step {parent['step']}"))
    facts.append(("code", code_line(run["git"])))
    if isinstance(run["command"], list):
        facts.append(("command", printable(shlex.join(map(str, run["command"])))))
    facts.append(("started", local_time(run["started"])))
    if data:
        words = {"train": "train", "labeled": "labelled", "unlabeled": "unlabelled", "val": "val", "test": "test"}
        parts = [f"{data[key]} {word}" for key, word in words.items() if data.get(key)]
        hashes = f"(data {printable(run['data_hash'])[:12]}, split {printable(run['split_hash'])[:12]})"
        facts.append(("images", f"{', '.join(parts)} {hashes}"))
        pairs = zip(_list(data.get("classes")), _list(data.get("counts")), strict=False)
        facts.append(("labelled", ", ".join(f"{printable(name)} {count}" for name, count in pairs)))
        skipped = [printable(line) for line in _list(data.get("skipped"))]
        hidden = f" and {len(skipped) - SKIPPED} more (--json lists all)" if len(skipped) > SKIPPED else ""
        facts += [("left out", ", ".join(skipped[:SKIPPED]) + hidden)] if skipped else []
    if run["curve"]:
        values = [value for _, value in run["curve"]]
        ends = f"{figure(values[0], run['metric'])} to {figure(values[-1], run['metric'])}"
        facts.append(("curve", f"{spark(values, out)}  {short_name(run['metric'])} {ends}"))
    if run["value"] is not None:
        how = WORDS[run["reducer"] or "last"]
        facts.append(("result", f"{short_name(run['metric'])} {figure(run['value'], run['metric'])} ({how})"))
    if (best := run["best"]) is not None:
        value = f"{short_name(best['metric'])} {figure(best['value'], best['metric'])}"
        peeked = f" ({PEEKED})" if best["selected_on_test"] else ""
        facts.append(("best", f"checkpoint of step {best['step']}, {value}{peeked}"))
    if (published := run["published"]) is not None:
        given = spread(published["value"], published["std"], run["metric"], out)
        away = f", ours {figure(published['distance'], run['metric'], sign=True)}" if "distance" in published else ""
        source = ", ".join(printable(published[key]) for key in ("source", "selection") if published[key])
        facts.append(("published", f"{given} ({source}){away}"))
    facts.append(("marks", " ".join(map(str, marks_of(run)))))
    facts.append(("tags", printable(" ".join(run["tags"]))))
    facts.append(("sweeps", printable(" ".join(run["sweeps"]))))
    facts += [("note", f"{printable(note['text'])} ({local_time(note['t'])})") for note in run["notes"]]
    return facts


def _print_evaluations(rows: Sequence[Evaluation], split: str, run: RunDetails, out: Console) -> None:
    steps = sorted({row["step"] for row in rows})
    images = f"{rows[0]['n']} images, " if rows[0]["n"] else ""
    print_heading(out, f"Last evaluation on {split} ({images}step {', '.join(map(str, steps))})")
    columns = [
        column("weights", rows, lambda row: printable(row["weights"])),
        column("predictor", rows, lambda row: printable(row["predictor"])),
    ]
    for rank, name in enumerate(METRICS):
        columns.append(column(TITLES.get(name, name), rows, partial(_metric, name), rank, right=True))
    print_table(columns, out)
    primary = run["metric"].split("/")
    for row in rows:
        recalls = row["per_class"] if isinstance(row["per_class"], list) else []
        if [split, row["weights"], row["predictor"]] == primary[:3] and recalls:
            names = _list(run["data"].get("classes")) or list(range(len(recalls)))
            pairs = zip(names, recalls, strict=False)
            print_list(out, "recall, %:", [f"{printable(name)} {_share(value)}" for name, value in pairs])


def _metric(name: str, row: Evaluation) -> str:
    return figure(as_number(row["metrics"][name]), name) if name in row["metrics"] else ""


def _share(value: object) -> str:
    return figure(value) if isinstance(value, (int, float)) else "-"


def _parameters(value: Setting) -> str:
    return (
        ", ".join(f"{printable(key)}={setting(item)}" for key, item in value.items()) if isinstance(value, dict) else ""
    )


def _list(value: Setting) -> list[Setting]:
    return value if isinstance(value, list) else []
