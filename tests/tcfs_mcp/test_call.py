"""``tcfs-mcp call``: JSON on stdout and nothing else, exit codes by class, no MCP SDK."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tcfs.errors import exit_codes
from tcfs_mcp.tools import TOOLS
from tests.tcfs_mcp import processes
from tests.tcfs_mcp.processes import call, run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "docs"
    tree.mkdir()
    (tree / "a.txt").write_text("one\n")
    return tree


def test_call_never_imports_the_mcp_sdk(tmp_path: Path):
    script = (
        "import sys; from tcfs_mcp.main import main; code = main(['call', 'config_show']);"
        "heavy = {'mcp', 'anyio', 'uvicorn', 'starlette', 'httpx2'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=processes.environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_help_imports_next_to_nothing(tmp_path: Path):
    script = (
        "import sys\nfrom tcfs_mcp.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(str({'pydantic', 'mcp', 'sqlite3', 'cryptography'} & set(sys.modules) or 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=processes.environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "usage: tcfs-mcp" in done.stdout
    assert done.stderr == "0\n"


def test_the_first_push_creates_store_and_identity_and_says_so_on_stderr(
    tmp_path: Path, tree: Path
):
    done = run(tmp_path, "call", "push", f"local_path={tree}")
    assert done.returncode == 0, done
    answer = json.loads(done.stdout)
    assert answer["plan"]["counts"]["add"] >= 1
    assert answer["notices"]
    for notice in answer["notices"]:
        assert notice in done.stderr
    again = run(tmp_path, "call", "push", f"local_path={tree}")
    assert json.loads(again.stdout)["plan"]["total"] == 0
    assert again.stderr == ""
    status = call(tmp_path, "device_status")
    assert any("init --show-phrase" in warning for warning in status["device"]["warnings"])


def test_looking_creates_nothing(tmp_path: Path):
    error = call(tmp_path, "device_status", code=15)
    assert error["code"] == "repository"
    assert error["remedy"]
    assert not (tmp_path / "tcfs").exists()


def test_a_relative_path_is_one_below_the_working_directory(tmp_path: Path, tree: Path):
    done = run(tmp_path, "call", "push", "local_path=docs", cwd=tree.parent)
    assert done.returncode == 0, done
    assert call(tmp_path, "sync_status", "path=docs/a.txt")["state"] == "up_to_date"


def test_a_call_is_recorded_as_call_or_as_it_names_itself(tmp_path: Path, tree: Path):
    call(tmp_path, "push", f"local_path={tree}")
    (tree / "a.txt").write_text("two\n")
    call(tmp_path, "push", f"local_path={tree}", "--actor", "nightly")
    page = call(tmp_path, "log", "path=docs/a.txt")
    assert [item["actor"] for item in page["versions"]] == ["nightly", "call"]


def test_a_conflict_that_stands_is_exit_code_10_with_the_answer_on_stdout(
    tmp_path: Path, tree: Path
):
    call(tmp_path, "push", f"local_path={tree}")
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("never pulled\n")
    answer = call(tmp_path, "push", f"local_path={other}", "as_remote=docs", code=10)
    assert answer["conflict_count"] == 1
    assert answer["conflicts"][0]["path"] == "docs/a.txt"
    assert call(tmp_path, "list_conflicts")["total"] == 1
    detail = call(tmp_path, "show_conflict", "path=docs/a.txt")
    assert {detail["ours"]["text"], detail["theirs"]["text"]} == {"one\n", "never pulled\n"}
    call(tmp_path, "resolve_conflict", "rel_path=docs/a.txt", "resolution=keep_both")
    assert call(tmp_path, "list_conflicts")["total"] == 0


def test_a_path_that_cannot_be_read_is_the_exit_code_of_its_problem(tmp_path: Path, tree: Path):
    (tree / "b.txt").symlink_to("a.txt")
    (tree / "pipe").unlink(missing_ok=True)
    answer = call(tmp_path, "push", f"local_path={tree / 'missing'}", code=14)
    assert answer["code"] == "local"


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["nonsense"], 5, "tool"),
        (["push", "--read-only", "local_path=/a"], 5, "tool"),
        (["push", "local_path=/a", "--exclude-tools", "transfer"], 5, "tool"),
        (["log", "--tools", "push"], 5, "tool"),
        (["push"], 2, "usage"),
        (["push", "local_path=/a", "dry-rn=true"], 2, "usage"),
        (["push", "local_path=/a", "local_path=/b"], 2, "usage"),
        (["push", "local_path=/a", "dry_run=maybe"], 2, "usage"),
        (["push", "local_path=/a", "max_delete=many"], 2, "usage"),
        (["push", "local_path"], 2, "usage"),
        (["log", "--args", "{"], 2, "usage"),
        (["log", "--args", "[]"], 2, "usage"),
        (["log", "--args", '{"limitt": 1}'], 2, "usage"),
        (["log", "limit=0"], 2, "usage"),
        (["log", "--tools", "nonsense"], 2, "usage"),
        (["push", "local_path=/etc/passwd", "--root", "/usr"], 12, "access"),
        (["job_status", "job_id=x"], 20, "not_found"),
    ],
)
def test_an_error_is_one_line_of_json_on_stderr_and_nothing_on_stdout(
    tmp_path: Path, words: list[str], code: int, error: str
):
    done = run(tmp_path, "call", *words)
    assert (done.returncode, done.stdout) == (code, ""), done
    [line] = done.stderr.splitlines()
    told = json.loads(line)["error"]
    assert (told["code"], told["exit_code"]) == (error, code)
    assert told["message"]
    assert told["remedy"]
    assert exit_codes()[error] == code


@pytest.mark.parametrize("words", [["call"], ["call", "log", "--limt", "3"], ["nonsense"], []])
def test_a_wrong_command_line_is_exit_code_2(tmp_path: Path, words: list[str]):
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, ""), done


def test_an_argument_written_as_an_option_is_explained(tmp_path: Path):
    done = run(tmp_path, "call", "push", "local_path=/a", "--dry-run")
    assert done.returncode == 2
    assert "dry_run=..." in done.stderr


def test_words_and_options_come_in_any_order(tmp_path: Path):
    done = run(tmp_path, "call", "push", "--read-only", "local_path=/a")
    assert done.returncode == 5, done
    done = run(tmp_path, "call", "--max-delete", "3", "daemon_status")
    assert done.returncode == 0, done


def test_arguments_come_as_one_json_object_too(tmp_path: Path, tree: Path):
    whole = json.dumps({"local_path": str(tree)})
    assert call(tmp_path, "push", "--args", whole)["status"] == "done"
    mixed = call(tmp_path, "log", "--args", '{"limit": 1}', "path=docs/a.txt")
    assert len(mixed["versions"]) == 1


def test_a_name_in_no_encoding_is_shown_and_can_be_given_back(tmp_path: Path, tree: Path):
    import os

    name = os.fsencode(tree) + b"/caf\xe9"
    with open(name, "wb") as file:
        file.write(b"x")
    call(tmp_path, "push", f"local_path={tree}")
    paths = [item["path"] for item in call(tmp_path, "log")["versions"]]
    assert "docs/caf\\xe9" in paths
    assert call(tmp_path, "why", "path=docs/caf\\xe9")["steps"]
    assert call(tmp_path, "sync_status", f"path={tree}/caf\\xe9")["state"] == "up_to_date"


def test_a_setting_that_looks_wrong_is_told_on_stderr(tmp_path: Path):
    done = run(tmp_path, "call", "daemon_status", env={"TCFS_REMOT": "file:///x"})
    assert done.returncode == 0
    assert "TCFS_REMOT" in done.stderr
    assert json.loads(done.stdout)


def test_tools_lists_what_may_be_used(tmp_path: Path):
    done = run(tmp_path, "tools", "--json", "--read-only")
    names = [tool["name"] for tool in json.loads(done.stdout)["tools"]]
    assert names == [spec.name for spec in TOOLS if spec.read_only]
    text = run(tmp_path, "tools").stdout
    assert [line.split()[0] for line in text.splitlines()] == [spec.name for spec in TOOLS]


def test_a_server_is_called_with_the_same_words_and_exit_codes(tmp_path: Path, tree: Path):
    with processes.http(tmp_path) as url:
        pushed = call(tmp_path, "push", f"local_path={tree}", "--server", url)
        assert pushed["status"] == "done"
        error = call(tmp_path, "why", "path=docs/none", "--server", url, code=20)
        assert error["code"] == "not_found"
        error = call(tmp_path, "push", "dry-rn=1", "--server", url, code=2)
        assert "dry_run" in error["remedy"]
        error = call(tmp_path, "pusch", "--server", url, code=5)
        assert "push" in error["remedy"]
    assert call(tmp_path, "daemon_status", "--server", url, code=5)["code"] == "tool"


def test_a_server_is_started_by_its_command_line(tmp_path: Path):
    import shlex

    command = shlex.join([*processes.MAIN, "serve"])
    assert call(tmp_path, "daemon_status", "--server", command)["state"] == "not running"
    error = call(tmp_path, "daemon_status", "--server", "/nonexistent/server", code=5)
    assert "/nonexistent/server" in error["message"]


def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path):
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(processes.MAIN)} tools --json | head -c 10"],
        env=processes.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
