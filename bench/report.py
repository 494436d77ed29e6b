"""The results as Markdown tables and as one plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from html import escape

from bench import peers as p
from bench.aims import Aim, Found
from bench.measure import Sample
from bench.peers import Key, Results

MB = 1e6
BARE_OF = {p.FIRST: (p.PARTS, p.UPLOAD), p.PULL: (p.COPY, p.DOWNLOAD, p.DURABLE)}
COLOURS = ("#1b6ca8", "#4aa3df", "#8a8a8a", "#b08968", "#a3b18a", "#c77dff", "#f4a261", "#dddddd")


def table(rows: Iterable[Sequence[str]], heading: Sequence[str]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """A median with the smallest and the largest."""
    text = f"{statistics.median(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} - {max(values):.{digits}f})"
    return text


def _median(samples: Sequence[Sample], figure: str, digits: int) -> str:
    values = [v for v in (getattr(s, figure) for s in samples) if v is not None]
    return f"{statistics.median(values):,.{digits}f}" if values else ""


def _median_mb(samples: Sequence[Sample], figure: str) -> str:
    values = [v for v in (getattr(s, figure) for s in samples) if v is not None]
    if not values:
        return ""
    value = statistics.median(values) / MB
    return f"{value:,.1f}" if value >= 10 else f"{value:.3f}"


def sample_row(name: Sequence[str], samples: Sequence[Sample]) -> list[str]:
    """A line of figures."""
    return [
        *name,
        spread([s.wall for s in samples]),
        str(len(samples)),
        _median(samples, "cpu", 2),
        f"{max(s.peak for s in samples) / MB:.0f}",
        _median_mb(samples, "sent"),
        _median(samples, "requests", 0),
        _median_mb(samples, "stored"),
    ]


FIGURES = ("wall s (min - max)", "runs", "CPU s", "peak MB", "sent MB", "requests", "stored MB")


def results_table(results: Results, workload: str) -> str:
    """All lines of a workload: step by step, the bare limits last."""
    keys = [key for key in results if key.workload == workload]
    steps = [*p.STEPS, p.START, *dict.fromkeys(k.step for k in keys if k.client == p.BARE)]
    rows = [
        sample_row([key.step, key.client], results[key])
        for step in steps
        for key in sorted(keys, key=lambda key: _order(results, key))
        if key.step == step
    ]
    return table(rows, ("step", "who", *FIGURES))


def summary(results: Results) -> str:
    """The one table to begin with: wall seconds, a line for each step, a column for each client."""
    clients = list(dict.fromkeys(key.client for key in results if key.client != p.BARE))
    clients.sort(key=lambda name: not name.startswith("tcfs"))
    rows = []
    for workload in dict.fromkeys(key.workload for key in results):
        for step in (*p.STEPS, p.START):
            walls = [
                [s.wall for s in results.get(p.Key(workload, client, step), ())]
                for client in clients
            ]
            bare = [
                (limit, [s.wall for s in results.get(p.Key(workload, p.BARE, limit), ())])
                for limit in BARE_OF.get(step, ())
            ]
            limits = [f"{limit} {spread(found)}" for limit, found in bare if found]
            if any(walls):
                cells = [spread(found) if found else "" for found in walls]
                rows.append((f"{workload} {step}", *cells, "; ".join(limits)))
    return table(rows, ("step", *clients, p.BARE))


def _order(results: Results, key: Key) -> int:
    names = list(dict.fromkeys(k.client for k in sorted(results, key=lambda k: k.client == p.BARE)))
    preferred = [n for n in names if n.startswith("tcfs")]
    return (preferred + [n for n in names if n not in preferred]).index(key.client)


def aims_table(aims: Sequence[Aim]) -> str:
    """Aim, what was reached, whether that is enough."""
    rows = [
        (
            a.what,
            a.aim,
            a.reached if a.reached is not None else "not measured",
            "" if a.reached is None else "yes" if a.met else "no",
        )
        for a in aims
    ]
    return table(rows, ("what", "aim", "measured", "reached"))


def others(found: Found) -> str:
    """Start-up, history, memory."""
    blocks = []
    if found.starts:
        lines = [
            (name, spread([s.wall for s in samples])) for name, samples in found.starts.items()
        ]
        blocks.append("### Start-up\n\n" + table(lines, ("what", "s (min - max)")))
    if found.ledger is not None:
        f = found.ledger
        rows = [
            ("events appended a second, pushes of many files", f"{f.append_events:,.0f}"),
            ("segments of one event appended a second, durably", f"{f.saves:,.0f}"),
            (
                f"replaying {f.segments:,} segments of {f.devices} devices",
                f"{f.replay_s:.1f} s: {f.replay_events:,.0f} events a second, "
                f"{f.replay_peak / MB:.0f} MB",
            ),
            ("taking a snapshot of them", f"{f.snapshot_s:.1f} s"),
            ("beginning from that snapshot", f"{f.bootstrap_s:.1f} s"),
            ("taking up 100 segments more, short history", f"{f.few_early_s:.2f} s"),
            ("taking up 100 segments more, all history known", f"{f.few_s:.2f} s"),
            (
                f"a new device of a tree of {f.boot_files:,} files, before file data",
                f"{f.boot_s:.1f} s, {f.boot_peak / MB:.0f} MB",
            ),
        ]
        blocks.append("### History\n\n" + table(rows, ("what", "measured")))
    if found.peaks:
        sizes = [
            (
                k.what,
                f"{k.push / MB:.0f}",
                f"{k.pull / MB:.0f}",
                f"{k.push_s:.1f}",
                f"{k.pull_s:.1f}",
            )
            for k in found.peaks
        ]
        heading = ("tree", "push: peak MB", "pull: peak MB", "push s", "pull s")
        blocks.append("### Memory against size\n\n" + table(sizes, heading))
    return "\n\n".join(blocks)


def plot(results: Results) -> str:
    """Wall times as one SVG: a panel for each workload and step, each with a scale of its own."""
    workloads = list(dict.fromkeys(key.workload for key in results))
    clients = sorted(
        dict.fromkeys(key.client for key in results), key=lambda n: (n == p.BARE, n[:4] != "tcfs")
    )
    colours = dict(zip(clients, COLOURS, strict=False))
    width, bar, label, gap = 280, 16, 116, 26
    parts: list[str] = []
    bottom = 0
    for row, workload in enumerate(workloads):
        top = bottom + gap
        for column, step in enumerate(p.STEPS):
            lines = _lines(results, workload, step)
            x, y = 10 + column * (width + 10), top
            parts.append(_text(x, y, f"{workload}: {step}, s", weight="bold"))
            longest = max((value for _, _, value in lines), default=1.0)
            for number, (name, client, value) in enumerate(lines):
                at = y + 8 + number * (bar + 3)
                length = max((width - label - 45) * value / longest, 1)
                parts.append(_text(x, at + 12, name))
                parts.append(
                    f'<rect x="{x + label}" y="{at}" width="{length:.1f}" height="{bar}" '
                    f'fill="{colours.get(client, "#999")}"/>'
                )
                parts.append(_text(x + label + length + 4, at + 12, f"{value:.2f}"))
            bottom = max(bottom, y + 8 + len(lines) * (bar + 3))
        del row
    size = f'width="{20 + len(p.STEPS) * (width + 10)}" height="{bottom + 20}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" '
            'font-size="12">',
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>\n",
        )
    )


def _lines(results: Results, workload: str, step: str) -> list[tuple[str, str, float]]:
    """Label, client and median wall time of each bar of a panel."""
    lines = []
    for key, samples in results.items():
        wanted = key.step == step or (key.client == p.BARE and key.step in BARE_OF.get(step, ()))
        if key.workload == workload and wanted:
            name = key.step if key.client == p.BARE else key.client
            lines.append((name, key.client, statistics.median(s.wall for s in samples)))
    return sorted(lines, key=lambda line: (line[1] == p.BARE, line[2]))


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{escape(text)}</text>'
