"""The benchmarks run, and their tables say what was measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import clients, peers, report
from bench.aims import Found, aims
from bench.measure import Command, Failed, Sample
from bench.peers import Bench, Key, Workload, workloads


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One round of SMALL at a five-hundredth of its size, for tcfs in a directory."""
    bench = Bench(tmp_path_factory.mktemp("bench"), (clients.Tcfs,))
    bench.round(workloads(0.002)["SMALL"])
    return bench


def cells(table: str) -> dict[tuple[str, str], list[str]]:
    """The rows of a Markdown table by their first two cells."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {(row[0], row[1]): row[2:] for row in rows}


def test_every_step_is_a_line_of_the_table_with_what_it_took(measured: Bench) -> None:
    rows = cells(report.results_table(measured.results, "SMALL"))
    name = clients.Tcfs.name
    assert [step for step, who in rows if who == name] == [*peers.STEPS, peers.START]
    assert {step for step, who in rows if who == peers.BARE} == {
        peers.COPY,
        peers.HASH,
        peers.PARTS,
    }
    wall, runs, cpu, peak, sent, requests, stored = rows[peers.FIRST, name]
    assert float(wall) > 0.05
    assert runs == "1"
    assert float(cpu) > 0.05
    assert float(peak) > 20
    assert (sent, requests) == ("", "")  # nothing was sent anywhere
    # 800 KB of text, compressed; the edit changes one file of a hundred.
    assert 0.1 < float(stored) < 0.7
    assert 0 < float(rows[peers.EDITED, name][-1]) < float(stored) / 5


def test_a_pull_that_brought_back_another_tree_ends_the_run(tmp_path: Path) -> None:
    for name in ("tree", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    peers.check(tmp_path / "tree", tmp_path / "out")
    (tmp_path / "out" / "file").write_text("sane")
    with pytest.raises(SystemExit, match="other bytes"):
        peers.check(tmp_path / "tree", tmp_path / "out")
    (tmp_path / "out" / "file").unlink()
    with pytest.raises(SystemExit, match="not the tree"):
        peers.check(tmp_path / "tree", tmp_path / "out")


def test_the_aims_are_judged_by_the_medians_of_the_same_run() -> None:
    def samples(*walls: float, **figures: int) -> list[Sample]:
        return [Sample(wall, wall, 100 * 10**6, **figures) for wall in walls]

    small = "SMALL"
    found = Found(
        {
            Key(small, clients.TcfsS3.name, peers.FIRST): samples(9, 2, 1, stored=80),
            Key(small, "restic", peers.FIRST): samples(8, 8, 8, stored=100),
            Key(small, "rclone", peers.FIRST): samples(19),
            Key(small, peers.BARE, peers.PARTS): samples(1),
            Key(small, peers.BARE, peers.UPLOAD): samples(1),
        },
        {},
    )
    lines = {aim.what: aim for aim in aims(found)}
    faster = "SMALL first push: times faster than"
    assert (lines[f"{faster} restic"].reached, lines[f"{faster} restic"].met) == ("4 times", True)
    assert (lines[f"{faster} rclone"].reached, lines[f"{faster} rclone"].met) == (
        "9.5 times",
        False,
    )
    assert lines["SMALL first push: against the bare parts' sum"].reached == "1 times"
    assert lines["SMALL stored: against restic"].met
    assert lines["WIDE no-op push"].reached is None
    table = report.aims_table(aims(found))
    assert "| WIDE no-op push | at most 8 s | not measured |  |" in table
    assert f"| {faster} rclone | at least 10 times | 9.5 times | no |" in table


def test_the_first_table_has_a_line_for_each_step_and_a_column_for_each_client(
    measured: Bench,
) -> None:
    head, _, *lines = report.summary(measured.results).splitlines()
    assert head == f"| step | {clients.Tcfs.name} | {peers.BARE} |"
    steps = [line.split("|")[1].strip() for line in lines]
    assert steps == [f"SMALL {step}" for step in (*peers.STEPS, peers.START)]
    assert all(float(line.split("|")[2]) > 0 for line in lines)
    assert peers.COPY in lines[peers.STEPS.index(peers.PULL)]


class Copying(clients.Client):
    """A peer that does no more than it has to."""

    name = "copying"
    remote = False

    def prepare(self, tree: Path) -> None:
        self.store.mkdir()

    def push(self, tree: Path) -> Command:
        return Command(["cp", "-a", f"{tree}/.", str(self.store)], {})

    def pull(self, tree: Path, out: Path) -> Command:
        return Command(["cp", "-aT", str(self.store), str(out)], {})


class Broken(Copying):
    """A peer whose second push fails."""

    name = "broken"

    def push(self, tree: Path) -> Command:
        once = self.place / "once"
        return Command(["sh", "-c", f"mkdir {once} || {{ echo no more; exit 3; }}"], {})


def test_a_peer_that_fails_is_noted_and_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    seen: list[int] = []
    bench = Bench(tmp_path, (Copying, Broken))
    bench.told = lambda: seen.append(len(bench.results))
    known = workloads(0.002)
    for name in ("SMALL", "LARGE"):
        bench.round(known[name])
        assert Key(name, "broken", peers.FIRST) in bench.results
        assert Key(name, "broken", peers.NOTHING) not in bench.results
        assert Key(name, "copying", peers.PULL_EDIT) in bench.results
        assert not bench.takes_part(known[name], Broken)
        assert bench.takes_part(known[name], Copying)
    assert bench.notes == [
        "broken failed with SMALL: no more",
        "broken failed with LARGE: no more",
    ]
    assert seen == sorted(seen)
    assert len(set(seen)) > 4  # what was found until then can be written again and again


def test_tcfs_failing_ends_the_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients.Tcfs, "prepare", lambda self, tree: None)
    with pytest.raises(Failed, match="push"):
        Bench(tmp_path, (clients.Tcfs,)).round(workloads(0.002)["SMALL"])


def test_the_plot_is_an_image_with_a_bar_for_each_client(measured: Bench) -> None:
    root = ElementTree.fromstring(report.plot(measured.results))
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [t for t in texts if t.startswith("SMALL: ")] == [
        f"SMALL: {step}, s" for step in peers.STEPS
    ]
    assert texts.count(clients.Tcfs.name) == len(peers.STEPS)


def test_a_client_whose_first_push_was_slow_is_not_asked_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, (clients.Tcfs, clients.Restic, clients.Borg), patience=5)
    for name in ("restic", "borg"):
        bench.note("SMALL", name, peers.FIRST, Sample(6, 0, 0))
    workload = Workload("SMALL", "", lambda tree: None, lambda tree: None)
    assert bench.takes_part(workload, clients.Tcfs)
    assert bench.takes_part(workload, clients.Restic)  # aims rest on it
    assert not bench.takes_part(workload, clients.Borg)
