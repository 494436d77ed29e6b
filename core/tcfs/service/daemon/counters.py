"""What the daemon counts, and how Prometheus reads it (text exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)

HELP: Final = {
    "tcfs_pushes_total": "Pushes that sent something.",
    "tcfs_pushed_files_total": "Files sent.",
    "tcfs_pushed_bytes_total": "Bytes sent to the store.",
    "tcfs_pulls_total": "Pulls that changed something on disk.",
    "tcfs_pulled_files_total": "Files put on disk.",
    "tcfs_pulled_bytes_total": "Bytes fetched from the store.",
    "tcfs_received_segments_total": "Segments of other devices taken up.",
    "tcfs_events_published_total": "Live events handed to the bus.",
    "tcfs_events_received_total": "Live events that came in.",
    "tcfs_watch_changes_total": "Changed paths that the watcher told of.",
    "tcfs_errors_total": "Steps that failed, by step and error code.",
    "tcfs_step_seconds": "Duration of steps.",
    "tcfs_live_connected": "Whether live events flow.",
    "tcfs_root_ok": "Whether a root has no problem.",
    "tcfs_root_pending": "Local paths that are to be pushed.",
    "tcfs_root_tracked": "Paths that are tracked in a root.",
    "tcfs_conflicts": "Conflicts that stand.",
    "tcfs_outbox_segments": "Finished segments that are not in the store.",
    "tcfs_store_ok": "Whether the store answered when it was last asked.",
    "tcfs_certificate_ok": "Whether a certificate can be used, and does not expire soon.",
    "tcfs_certificate_expiry_timestamp_seconds": "When a certificate or NATS credentials expire.",
    "tcfs_up_seconds": "Time since the daemon started.",
}

Labels = tuple[tuple[str, str], ...]


class Counters:
    """Counters, gauges and one histogram. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, Labels], float] = {}
        self._durations: dict[str, list[float]] = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name, tuple(sorted(labels.items()))] = value

    def forget(self, name: str) -> None:
        """Drop a gauge with all its labels."""
        with self._lock:
            self._values = {k: v for k, v in self._values.items() if k[0] != name}

    def took(self, step: str, seconds: float) -> None:
        """Record how long a step took."""
        with self._lock:
            # One count for each bucket, one above all, and the sum.
            cells = self._durations.setdefault(step, [0.0] * (len(BUCKETS_S) + 2))
            cells[next((i for i, b in enumerate(BUCKETS_S) if seconds <= b), len(BUCKETS_S))] += 1
            cells[-1] += seconds

    def get(self, name: str, **labels: str) -> float:
        """The value of a counter or gauge; 0 if there is none."""
        with self._lock:
            return self._values.get((name, tuple(sorted(labels.items()))), 0)

    def durations(self, step: str) -> int:
        """How many durations of a step were recorded."""
        with self._lock:
            return int(sum(self._durations.get(step, (0.0,))[:-1]))

    def totals(self) -> dict[str, int]:
        """Counters without labels, by short name, for the report."""
        with self._lock:
            return {
                name.removeprefix("tcfs_").removesuffix("_total"): int(value)
                for (name, labels), value in sorted(self._values.items())
                if name.endswith("_total") and not labels
            }

    def text(self) -> str:
        """Everything, for Prometheus."""
        with self._lock:
            values = sorted(self._values.items())
            durations = {step: list(cells) for step, cells in self._durations.items()}
        lines: list[str] = []
        last = ""
        for (name, labels), value in values:
            if name != last:
                kind = "counter" if name.endswith("_total") else "gauge"
                lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}"]
                last = name
            lines.append(f"{name}{_labels(labels)} {value:.15g}")
        if durations:
            name = "tcfs_step_seconds"
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} histogram"]
            for step, cells in sorted(durations.items()):
                lines += _histogram(name, step, cells)
        return "\n".join(lines) + "\n"


def _histogram(name: str, step: str, cells: list[float]) -> Iterator[str]:
    count = 0.0
    for bound, cell in zip([*map(str, BUCKETS_S), "+Inf"], cells, strict=False):
        count += cell
        yield f"{name}_bucket{_labels((('step', step), ('le', bound)))} {count:.15g}"
    yield f"{name}_sum{_labels((('step', step),))} {cells[-1]:.15g}"
    yield f"{name}_count{_labels((('step', step),))} {count:.15g}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    quoted = (
        (key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for key, value in labels
    )
    return "{" + ",".join(f'{key}="{value}"' for key, value in quoted) + "}"
