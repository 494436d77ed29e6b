"""What travels is what is new."""

from __future__ import annotations

import random

import pytest

from tcfs.sync.git import outgoing
from tests.sync.git.repos import BUNDLE, Repo, assert_alike, clean, repo
from tests.sync.kit import Device, World


def prose(source: random.Random, lines: int) -> str:
    """Text that compresses about as source code does."""
    return "".join(
        " ".join(f"word{source.randrange(3000)}" for _ in range(7)) + "\n" for _ in range(lines)
    )


def history(commits: int) -> str:
    """A ``git fast-import`` stream: each commit changes a line of one of 400 files."""
    source = random.Random(5)
    files = [prose(source, 40).splitlines(keepends=True) for _ in range(400)]
    out = []
    for number in range(commits):
        n = number % 400
        files[n][source.randrange(40)] = prose(source, 1)
        text, message = "".join(files[n]), f"commit {number}\n"
        out.append(
            f"commit refs/heads/main\ncommitter Anna <anna@example.org> {1_600_000_000 + number}"
            f" +0000\ndata {len(message)}\n{message}"
            f"M 100644 inline d{n % 8}/f{n}.txt\ndata {len(text)}\n{text}\n"
        )
    return "".join(out)


@pytest.fixture
def pair(world: World) -> tuple[Device, Device]:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    return anna, ben


def test_one_commit_to_a_repository_of_thousands_sends_under_twice_its_new_objects(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    one, other = repo(anna).init(), repo(ben)
    one("fast-import", "--quiet", stdin=history(2000))
    one("reset", "-q", "--hard")
    first = clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)
    before = one.head
    for name in ("d1/f1.txt", "d2/f2.txt"):
        text = (one.path / name).read_text()
        one.write(name, text + prose(random.Random(name), 40))
    one("commit", "-q", "-a", "-m", "two files")
    objects = one("rev-list", "--objects", f"{before}..main").splitlines()
    sizes = one(
        "cat-file",
        "--batch-check=%(objectsize:disk)",
        stdin="\n".join(line.split()[0] for line in objects) + "\n",
    )
    new = sum(map(int, sizes.split()))
    sent = clean(anna.push()).transfer.bytes_sent
    # Everything counts: the bundle, the signed segments, the file of the work tree.
    assert sent < 2 * new, (sent, new)
    assert sent < first.transfer.bytes_sent / 20
    clean(ben.pull())
    assert_alike(one, other)


def bundles(device: Device) -> list[tuple[bool, int]]:
    """(whether it is full, size) of every bundle that stands."""
    from tcfs.model.ids import RelPath
    from tcfs.sync.git import registers

    context = device.fleet._context
    remote = registers.read(context, context.namespace, RelPath(b"repo"))
    return [
        (not info.needs, version.manifest.file_size)
        for version in registers.ordered(remote.bundles)
        if (info := registers.bundle_info(version))
    ]


def test_now_and_then_a_full_bundle_takes_the_place_of_the_others(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "FULL_AFTER", 3)
    anna, ben = pair
    one = repo(anna).init()
    counts = []
    for number in range(6):
        one.commit("a.txt", f"{number}\n")
        clean(anna.push())
        counts.append([full for full, _ in bundles(anna)])
    assert counts[0] == [True]
    assert counts[3] == [True, False, False, False]
    assert counts[4] == [True]
    assert counts[5] == [True, False]
    clean(ben.pull())
    assert_alike(one, repo(ben))
    assert anna.fleet.verify(read_data=True).ok


def test_a_device_that_was_away_while_a_full_bundle_was_made_catches_up(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "FULL_AFTER", 2)
    anna, ben = pair
    one, other = repo(anna).init(), repo(ben)
    one.commit("a.txt", "start\n")
    clean(anna.push())
    clean(ben.pull())
    for number in range(5):
        one.commit("a.txt", f"{number}\n")
        clean(anna.push())
    other.commit("b.txt", "meanwhile\n")
    ben.push()
    ben.pull()
    ben.fleet.resolve("repo/.git/tcfs/refs/heads/main", "merge")
    clean(anna.pull())
    assert_alike(one, other)


def test_a_branch_at_a_commit_that_the_fleet_has_needs_no_bundle(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    one = repo(anna).init()
    one.commit("a.txt", "one\n")
    one.commit("a.txt", "two\n")
    clean(anna.push())
    one("branch", "old", "HEAD~1")
    clean(anna.push())
    assert len(bundles(anna)) == 1
    clean(ben.pull())
    assert_alike(one, repo(ben))


def test_two_repositories_of_one_root_do_not_disturb_each_other(
    pair: tuple[Device, Device],
) -> None:
    anna, ben = pair
    names = ["x", "deep/y", "x/inner"]
    for name in names:
        Repo(anna.tree / name).init().commit("a.txt", f"{name}\n")
    clean(anna.push())
    clean(ben.pull())
    for name in names:
        assert_alike(Repo(anna.tree / name), Repo(ben.tree / name))
