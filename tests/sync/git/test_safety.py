"""What is in the way, what is hostile, and what is no ordinary repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tcfs.model.ids import RelPath
from tcfs.sync.git import names
from tcfs.sync.git.repository import blockers
from tests.sync.git.repos import BUNDLE, RAW, Repo, assert_alike, clean, repo
from tests.sync.kit import Device, World

BLOCKERS = {
    "index.lock": "the index is locked",
    "HEAD.lock": "HEAD is locked",
    "shallow.lock": "shallow",
    "packed-refs.lock": "packed refs are locked",
    "refs/heads/main.lock": "a ref is locked",
    "gc.pid": "git gc is running",
    "rebase-merge/": "a rebase is in progress",
    "rebase-apply/": "a rebase or am is in progress",
    "MERGE_HEAD": "a merge is in progress",
    "CHERRY_PICK_HEAD": "a cherry-pick is in progress",
    "REVERT_HEAD": "a revert is in progress",
    "BISECT_LOG": "a bisect is in progress",
}


@pytest.fixture
def pair(world: World) -> tuple[Device, Device, Repo, Repo]:
    """Two devices with one repository, equal and clean."""
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    one = repo(anna).init()
    one.commit("a.txt", "one\n")
    clean(anna.push())
    clean(ben.pull())
    return anna, ben, one, repo(ben)


def put(git: Repo, name: str) -> Path:
    path = git.path / ".git" / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("")
    return path


def drop(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", BLOCKERS)
def test_a_blocker_is_seen(tmp_path: Path, name: str) -> None:
    git = Repo(tmp_path / "r").init()
    assert blockers(os.fsencode(git.path / ".git")) == []
    put(git, name)
    (reason,) = blockers(os.fsencode(git.path / ".git"))
    assert BLOCKERS[name] in reason


def test_a_blocked_repository_is_postponed_with_a_reason_and_the_push_goes_on(pair) -> None:
    anna, ben, one, other = pair
    before = other.head
    one.commit("a.txt", "two\n")
    anna.fill({"notes.txt": "beside it"})
    blocker = put(one, "rebase-merge/")
    result = anna.push()
    (problem,) = result.problems
    assert (problem.path, problem.code) == ("repo/.git", "busy")
    assert "postponed: a rebase is in progress" in problem.message
    clean(ben.pull())
    assert (ben.read("notes.txt"), ben.read("repo/a.txt")) == (b"beside it", b"two\n")
    assert other.head == before
    drop(blocker)
    clean(anna.push())
    blocker = put(other, "index.lock")
    (problem,) = ben.pull().problems
    assert "postponed: the index is locked" in problem.message
    assert other.head == before
    drop(blocker)
    clean(ben.pull())
    assert_alike(one, other)


def test_an_index_with_conflicts_waits_for_their_resolution(pair) -> None:
    anna, _, one, _ = pair
    one.write("a.txt", "stashed\n")
    one("stash", "push", "-q")
    one.commit("a.txt", "two\n")
    one("stash", "pop", "-q", check=False)
    assert one("diff", "--name-only", "--diff-filter=U") == "a.txt"
    status = anna.fleet.git.status().repositories[0]
    assert "conflicts that wait for their resolution" in status.reason
    anna.push()
    one("checkout", "-q", "--theirs", "a.txt")
    one("add", "a.txt")
    clean(anna.push())


def test_a_git_directory_is_never_taken_file_by_file(pair) -> None:
    anna, ben, *_ = pair
    context = ben.fleet._context
    paths = context.state.history.present_paths(context.namespace, RelPath(b""))
    inside = [path for path in paths if names.is_git(path)]
    assert inside
    assert all(names.split(path) is not None for path in inside)
    assert not (ben.tree / "repo" / ".git" / "tcfs").exists()
    assert anna.fleet.verify(read_data=True, local=True).ok


def test_nothing_that_a_repository_names_is_run(pair, tmp_path: Path) -> None:
    anna, ben, one, other = pair
    ran = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> {ran}\ncat\n')
    script.chmod(0o755)
    for git in (one, other):
        hooks = git.path / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        for hook in (
            *("pre-commit", "post-commit", "post-checkout", "post-merge", "pre-rebase"),
            *("reference-transaction", "post-index-change", "pre-auto-gc", "post-rewrite"),
            *("update", "pre-receive", "post-update", "fsmonitor-watchman"),
        ):
            shutil.copy(script, hooks / hook)
        for key in (
            *("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "core.askPass"),
            *("core.gitProxy", "core.alternateRefsCommand", "gpg.program", "credential.helper"),
            *("filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.external"),
            *("diff.x.textconv", "diff.x.command", "merge.x.driver", "alias.status"),
            *("alias.for-each-ref", "uploadpack.packObjectsHook", "pager.log"),
            *("interactive.diffFilter", "sequence.editor", "man.x.cmd", "browser.x.cmd"),
        ):
            git("config", key, ("!" if key.startswith("alias") else "") + str(script))
        git("config", "filter.x.required", "true")
        git("config", "core.hooksPath", str(hooks))
        git("config", "commit.gpgSign", "true")
        git("config", "log.showSignature", "true")
        git("config", "submodule.recurse", "true")
    attributes = "*.txt filter=x diff=x merge=x\n"
    anna.fill({"repo/.gitattributes": attributes, "repo/a.txt": "two\n"})
    quiet = [
        *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
        *("-c", "filter.x.clean=", "-c", "filter.x.process=", "-c", "filter.x.required=false"),
        *("-c", "commit.gpgSign=false"),
    ]
    one(*quiet, "add", "-A")
    one(*quiet, "commit", "-q", "-m", "two")
    one(*quiet, "branch", "side")
    assert not ran.exists()
    clean(anna.push())
    clean(ben.pull())
    assert other(*quiet, "rev-parse", "HEAD") == one(*quiet, "rev-parse", "HEAD")
    ben.fill({"repo/b.txt": "ben\n"})
    other(*quiet, "add", "-A")
    other(*quiet, "commit", "-q", "-m", "ben")
    anna.fill({"repo/c.txt": "anna\n"})
    one(*quiet, "add", "-A")
    one(*quiet, "commit", "-q", "-m", "anna")
    anna.push()
    ben.pull()
    main = "repo/.git/tcfs/refs/heads/main"
    assert "a program that a merge would run" in ben.fleet.show_conflict(main).merge_reason
    ben.fleet.git.status()
    ben.fleet.resolve(main, "keep_both")
    clean(anna.pull())
    assert not ran.exists()


def test_a_settings_file_from_elsewhere_is_not_applied(pair) -> None:
    anna, ben, one, other = pair
    one("config", "core.pager", "evil")
    one("config", "remote.origin.url", "ext::sh -c evil")
    one.commit("a.txt", "two\n")
    before = (other.path / ".git" / "config").read_bytes()
    clean(anna.push())
    clean(ben.pull())
    assert (other.path / ".git" / "config").read_bytes() == before


def test_it_works_from_inside_a_hook(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, ben, one, other = pair
    elsewhere = Repo(anna.home / "elsewhere").init()
    elsewhere.commit("x", "x\n")
    one.commit("a.txt", "two\n")
    monkeypatch.setenv("GIT_DIR", str(elsewhere.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(elsewhere.path / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere.path))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(elsewhere.path / ".git" / "objects"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=true'")
    before = elsewhere.told()
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)
    assert elsewhere.told() == before


@pytest.mark.parametrize(
    "name",
    [
        b"refs/heads/../../hooks/x",
        b"refs/../config",
        b"refs/heads/-x/../y",
        b"refs/heads/.hidden",
        b"refs/heads/a.lock",
        b"refs/heads/a..b",
        b"refs/heads/a b",
        b"refs/heads/a\nb",
        b"refs/heads/a~1",
        b"refs/heads/@{x",
        b"refs/heads/a\\b",
        b"refs/heads/",
        b"refs//heads",
        b"--upload-pack=evil",
    ],
)
def test_a_ref_name_that_git_would_not_make_is_no_register(name: bytes) -> None:
    assert not names.is_register(name)


@pytest.mark.parametrize("name", [b"refs/heads/-x", b"refs/heads/a/b.c", "refs/heads/ü".encode()])
def test_an_unusual_ref_name_that_git_takes_is_one(name: bytes) -> None:
    assert names.is_register(name)


def test_unusual_ref_names_travel(pair) -> None:
    anna, ben, one, other = pair
    for name in ("refs/heads/-dash", "refs/heads/über/ñ", "refs/heads/a'b$(x)", "refs/custom/x"):
        one("update-ref", name, "HEAD")
    one("pack-refs", "--all")
    clean(anna.push())
    clean(ben.pull())
    form = ("for-each-ref", "--format=%(refname) %(objectname)")
    assert [r for r in other(*form).splitlines() if "refs/tcfs/" not in r] == one(
        *form
    ).splitlines()


def test_a_branch_name_in_place_of_a_directory_of_branches_is_followed(pair) -> None:
    anna, ben, one, other = pair
    one("branch", "a")
    clean(anna.push())
    clean(ben.pull())
    one("branch", "-D", "a")
    one("branch", "a/b")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)


def test_an_empty_repository_travels(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    one = repo(anna).init()
    one.write("a.txt", "not committed\n")
    clean(anna.push())
    clean(ben.pull())
    other = repo(ben)
    assert other("symbolic-ref", "HEAD") == "refs/heads/main"
    assert other("status", "--porcelain") == "?? a.txt"
    one("add", "a.txt")
    clean(anna.push())
    clean(ben.pull())
    assert other("status", "--porcelain") == "A  a.txt"
    one("commit", "-q", "-m", "first")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)


def test_a_detached_head_travels(pair) -> None:
    anna, ben, one, other = pair
    one.commit("a.txt", "two\n")
    one("switch", "-q", "--detach", "HEAD~1")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)
    assert other("symbolic-ref", "-q", "HEAD", check=False) == ""


def test_a_sha256_repository_travels(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    one = repo(anna).init("--object-format=sha256")
    one.commit("a.txt", "one\n")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, repo(ben))
    one.commit("a.txt", "two\n")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, repo(ben))
    assert len(repo(ben).head) == 64


def test_a_bare_repository_travels(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    work = Repo(anna.home / "work").init()
    first = work.commit("a.txt", "one\n")
    bare, other = repo(anna, "x.git"), repo(ben, "x.git")
    bare.path.mkdir()
    bare("init", "-q", "--bare", "-b", "main")
    work("push", "-q", str(bare.path), "main")
    clean(anna.push())
    clean(ben.pull())
    assert other("rev-parse", "main") == first
    assert other("rev-parse", "--is-bare-repository") == "true"
    second = work.commit("a.txt", "two\n")
    work("push", "-q", str(bare.path), "main")
    clean(anna.push())
    clean(ben.pull())
    assert other("rev-parse", "main") == second
    other("fsck", "--strict")


def test_a_submodule_travels_as_a_repository_of_its_own(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **BUNDLE)
    library = Repo(anna.home / "library").init()
    library.commit("lib.txt", "one\n")
    one, other = repo(anna).init(), repo(ben)
    one.commit("a.txt", "one\n")
    one("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.path), "sub")
    one("commit", "-q", "-m", "with a submodule")
    clean(anna.push())
    clean(ben.pull())
    assert other("status", "--porcelain") == one("status", "--porcelain") == ""
    assert other.head == one.head
    Repo(one.path / "sub").commit("lib.txt", "two\n")
    clean(anna.push())
    clean(ben.pull())
    assert other("status", "--porcelain") == one("status", "--porcelain") == " M sub"
    assert Repo(other.path / "sub").head == Repo(one.path / "sub").head


def test_a_linked_worktree_is_named_and_its_branch_not_moved_under_it(pair) -> None:
    anna, ben, one, other = pair
    one("branch", "side")
    clean(anna.push())
    clean(ben.pull())
    other("worktree", "add", "-q", str(ben.tree / "linked"), "side")
    result = ben.push()
    assert any("is a linked worktree" in warning for warning in result.plan.warnings)
    before = other.oid("side")
    one("switch", "-q", "side")
    one.commit("a.txt", "side\n")
    one("switch", "-q", "main")
    clean(anna.push())
    (problem,) = ben.pull().problems
    assert "refs/heads/side is checked out in the linked worktree linked" in problem.message
    assert other.oid("side") == before


def away(git: Repo) -> Path:
    """A place outside of the tree."""
    return git.path.parents[2] / "git-dir"


def moved(git: Repo) -> bool:
    """Move the git directory there."""
    (git.path / ".git").rename(away(git))
    return True


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda git: (git.path / ".git" / "shallow").write_text(""), "shallow clone"),
        (lambda git: git("config", "core.sparseCheckout", "true"), "sparse checkout"),
        (lambda git: git("config", "extensions.partialClone", "origin"), "partial clone"),
        (lambda git: moved(git) and (git.path / ".git").symlink_to(away(git)), "is a symlink"),
        (
            lambda git: moved(git) and (git.path / ".git").write_text(f"gitdir: {away(git)}"),
            "is elsewhere",
        ),
    ],
    ids=["shallow", "sparse", "partial", "symlink", "elsewhere"],
)
def test_what_cannot_travel_safely_is_refused_by_name(world: World, make, why: str) -> None:
    (anna,) = world.devices("anna", **BUNDLE)
    git = repo(anna, "deep/repo").init()
    git.commit("a.txt", "one\n")
    make(git)
    result = anna.push()
    assert result.problems == ()
    assert any(why in warning for warning in result.plan.warnings)
    (status,) = anna.fleet.git.status(anna.path("deep/repo")).repositories
    assert status.state == "refused"
    assert why in status.reason


def test_another_users_repository_is_refused(world: World) -> None:
    (anna,) = world.devices("anna", **BUNDLE)
    git = repo(anna).init()
    git.commit("a.txt", "one\n")
    if os.geteuid():
        pytest.skip("giving a directory away needs root")
    os.chown(git.path / ".git", 12345, 12345)
    result = anna.push()
    assert any("belongs to another user" in warning for warning in result.plan.warnings)


def test_a_repository_that_is_removed_stays_on_other_devices_and_does_not_come_back(pair) -> None:
    anna, ben, one, other = pair
    head = other.head
    shutil.rmtree(one.path)
    anna.push()
    ben.pull()
    assert other.head == head  # no .git is ever removed by a sync
    ben.push()
    anna.pull()
    assert not one.path.exists()
    # Work on it brings it back.
    other.commit("a.txt", "again\n")
    clean(ben.push())
    clean(anna.pull())
    assert_alike(one, other)


def test_raw_mode_copies_files_and_refuses_while_something_is_in_progress(world: World) -> None:
    anna, ben = world.devices("anna", "ben", **RAW)
    one, other = repo(anna).init(), repo(ben)
    one.commit("a.txt", "one\n")
    clean(anna.push())
    clean(ben.pull())
    assert_alike(one, other)
    one.commit("a.txt", "two\n")
    blocker = put(one, "MERGE_HEAD")
    (problem,) = anna.push().problems
    assert "postponed: a merge is in progress" in problem.message
    drop(blocker)
    clean(anna.push())
    blocker = put(other, "index.lock")
    before = other.head
    ben.pull()
    assert other.head == before
    drop(blocker)
    clean(ben.pull())
    assert other.head == one.head


def test_a_raw_git_directory_does_not_reach_a_device_that_wants_bundles(world: World) -> None:
    anna = world.devices("anna", **RAW)[0]
    ben = world.devices("ben", **BUNDLE)[0]
    repo(anna).init().commit("a.txt", "one\n")
    clean(anna.push())
    clean(ben.pull())
    assert not (ben.tree / "repo" / ".git").exists()
    assert ben.read("repo/a.txt") == b"one\n"


def test_a_forged_value_of_a_ref_is_refused(pair) -> None:
    from tcfs.sync.commit import Committer
    from tcfs.sync.git.registers import register_draft

    anna, ben, _, other = pair
    with anna.fleet._working() as context:
        committer = Committer(context, context.namespace)
        place = RelPath(b"repo")
        committer.add(
            [
                register_draft(context, context.namespace, place, b"refs/heads/evil", value, ())
                for value in (b"--exec=evil",)
            ]
        )
        committer.flush()
    before = other.told()
    result = ben.pull()
    assert any("has a value that is none" in p.message for p in result.problems)
    assert other.told() == before


def test_a_damaged_bundle_moves_no_ref(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from tcfs.sync.git import outgoing

    anna, ben, one, other = pair
    one.commit("a.txt", "two\n")
    inner = outgoing.store_scratch

    def damaging(context, upload, path):
        if path.endswith(b"bundle"):
            data = bytearray(Path(os.fsdecode(path)).read_bytes())
            data[-40] ^= 1
            Path(os.fsdecode(path)).write_bytes(data)
        return inner(context, upload, path)

    monkeypatch.setattr(outgoing, "store_scratch", damaging)
    clean(anna.push())
    before = other.head
    (problem,) = ben.pull().problems
    assert problem.code == "integrity"
    assert "the bundle of repo by anna was refused" in problem.message
    assert other.head == before
    other("fsck", "--strict")


def test_two_of_our_processes_do_not_work_on_one_repository(pair) -> None:
    anna, _, one, _ = pair
    one.commit("a.txt", "two\n")
    lock = one.path / ".git" / ".tcfs" / "lock"
    from tcfs.host.lock import file_lock

    with file_lock(os.fsencode(lock), False):
        (problem,) = anna.push().problems
    assert "postponed" in problem.message
    assert problem.code == "busy"
    clean(anna.push())


def test_undo_takes_a_push_of_commits_back_everywhere_and_loses_nothing(pair) -> None:
    anna, ben, one, other = pair
    before = one.told()
    lost = one.commit("a.txt", "two\n")
    pushed = clean(anna.push())
    clean(ben.pull())
    assert pushed.segment
    done = anna.fleet.undo(segment=pushed.segment)
    assert "repo/.git/tcfs/refs/heads/main" in done.reverted
    clean(ben.pull())
    assert one.oid("main") == other.oid("main") == before["HEAD log"].split()[0]
    assert other("cat-file", "-t", lost) == "commit"


def test_refs_wait_for_files_that_could_not_be_put_in_place(pair) -> None:
    anna, ben, one, other = pair
    before = other.head
    os.mkfifo(other.path / "new.txt")
    one.commit("new.txt", "anna\n")
    one("branch", "side")
    clean(anna.push())
    problems = {problem.path: problem.message for problem in ben.pull().problems}
    assert problems["repo/.git"] == "postponed: 1 of its files could not be put in place"
    assert other.head == before
    assert other.oid("side") == one.head
    (other.path / "new.txt").unlink()
    clean(ben.pull())
    assert_alike(one, other)
