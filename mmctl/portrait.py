"""`mmctl show`: all that is known of one run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.text import Text

from mmctl import lease
from mmctl.progress import duration
from mmctl.report import clean, console, percent, row, sparkline, state_text, table
from mmctl.store import Store

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "largest_class")


def portrait(store: Store, run: dict[str, Any]) -> dict[str, Any]:
    """Everything that `show` prints, for programs too."""
    last = {s["name"]: s for s in store.series(run)}
    about = store.about(run)
    held = lease.read(store.runs_dir / run["uid"]) if run["state"] == "running" else None
    return {
        "schema_version": 1,
        **{k: v for k, v in run.items() if k not in ("id", "boot")},
        "folder": str(store.runs_dir / run["uid"]),
        "note": about.get("note"),
        "command": about.get("command"),
        "environment": about.get("environment"),
        "git": about.get("git"),
        "data": store.data(run),
        "seconds": store.seconds(run),
        "lease": held,
        "attempts": [a["body"] | {"dropped": a["dropped"]} for a in store.attempts(run)],
        "alerts": [e["body"] for e in store.events(run, "alert")],
        "notes": [e["body"].get("text") for e in store.events(run, "note")],
        "checkpoints": [{k: c[k] for k in ("step", "kind", "bytes", "path")} for c in store.checkpoints(run)],
        "last": {name: s["last"] for name, s in last.items()},
        "curve": store.points(run, run["primary_metric"]),
        "components": about.get("components", []),
        "published": about.get("published"),
    }


def print_portrait(p: dict[str, Any]) -> None:
    """For people."""
    out = console()

    def line(name: str, text: object) -> None:
        out.print(Text(f"{name:<12}{clean(text)}"))

    out.print(Text.assemble((clean(p["uid"]), "bold"), "  ", state_text(p)))
    if p["reason"]:
        line("reason", p["reason"])
    labels = f", labels from {p['labeler']}" if p["labeler"] else ""
    line("recipe", f"{p['recipe']}, method {p['method']}{labels}, seed {p['seed']}, cell {p['cell']}")
    if p["name"] != p["recipe"]:
        line("name", p["name"])
    for key in ("note", "tags", "notes"):
        if p[key]:
            line(key, p[key] if isinstance(p[key], str) else "; ".join(p[key]))
    step = p["lease"]["step"] if p["lease"] else p["step"]
    line("progress", f"step {step}/{p['total_steps']}, {duration(p['seconds'])} of training"
         + (f", {p['lease']['rate']:.1f} step/s" if p["lease"] else ""))  # fmt: skip
    if d := p["data"]:
        counts = ", ".join(f"{c} {n}" for c, n in zip(d.get("classes", []), d.get("counts", []), strict=False))
        pools = f"{d['train']} train: {d['labeled']} labelled, {d['unlabeled']} unlabelled"
        line("data", f"{pools}; {d['val']} val, {d['test']} test")
        line("labels", counts)
    _figures(p)
    if len(p["curve"]) > 1:
        values = [v for _, v in p["curve"]]
        line("curve", f"{sparkline(values)}  {p['primary_metric']}: {percent(min(values))} .. {percent(max(values))} %")
    if p["published"]:
        _published(p, line)
    for a in p["alerts"]:
        line("alarm", f"step {a['step']} ({a['kind']}): {a['text']}")
    for a in p["attempts"]:
        when = datetime.fromtimestamp(a.get("t", 0) / 1000).strftime("%Y-%m-%d %H:%M:%S")
        exact = "" if a.get("exact", True) else ", not exact"
        line(f"attempt {a['n']}", f"from step {a['from']}, {when}, {a.get('host')}, {a.get('device')}, "
             f"{a.get('precision')}, {a.get('threads')} threads{exact}")  # fmt: skip
    if p["checkpoints"]:
        line("saved", ", ".join(f"step {c['step']} ({c['kind']})" for c in p["checkpoints"][-4:]))
    foreign = [c for c in p["components"] if c["origin"] != "mmctl"]
    for c in foreign:
        line("plugin", f"{c['kind']} {c['name']} {c['version'] or c['file'] or ''}")
    line("folder", p["folder"])


def _figures(p: dict[str, Any]) -> None:
    """The last evaluation of each network by each predictor."""
    prefixes = sorted({name.rsplit("/", 1)[0] for name in p["last"] if name.count("/") == 3})
    if not prefixes:
        return
    made = table("at the end", *(f">{h}" for h in ("accuracy", "balanced", "macro F1", "NLL", "ECE", "largest")))
    for prefix in prefixes:
        values = [p["last"].get(f"{prefix}/{f}") for f in FIGURES]
        shown = [
            ("-" if v is None else f"{v:.4f}") if f == "nll" else percent(v)
            for f, v in zip(FIGURES, values, strict=True)
        ]
        row(made, prefix + (" *" if p["primary_metric"].startswith(prefix) else ""), *shown)
    console().print(made)


def _published(p: dict[str, Any], line: Any) -> None:
    figure, mine = p["published"], p["last"].get(p["primary_metric"])
    gap = f"; ours {100 * mine:.2f} ({100 * mine - figure['value']:+.2f})" if mine is not None else ""
    line("published", f"{figure['value']} {figure['unit']}, {figure['selection']} selection, {figure['source']}{gap}")
    if figure.get("note"):
        line("", figure["note"])
