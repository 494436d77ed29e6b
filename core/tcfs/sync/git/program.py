"""The git program, run so that nothing a repository holds can make it run anything else.

System and user configuration are not read. What a repository's own configuration could start -
hooks, a file system monitor, filters, drivers, ssh, an editor - is overridden on the command line,
and no transport is allowed. Where the repository lies is said in full, so that neither the
surroundings nor the environment of whoever started us decide it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from tcfs.errors import LocalFileError
from tcfs.model.paths import show

_OVERRIDES: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.sshCommand=false",
    "core.askPass=",
    "core.editor=false",
    "core.pager=",
    "core.gitProxy=",
    "core.alternateRefsCommand=true",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.fsync=all",
    "core.quotePath=false",
    "i18n.commitEncoding=UTF-8",
    "credential.helper=",
    "diff.external=",
    "gpg.program=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "log.showSignature=false",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "trace2.normalTarget=0",
    "trace2.perfTarget=0",
    "trace2.eventTarget=0",
)
_EXECUTING: Final = re.compile(
    r"(filter\..*\.(?:clean|smudge|process|required)|diff\..*\.(?:command|textconv)"
    r"|merge\..*\.driver)",
    re.DOTALL,
)
_REFUSED_DRIVER: Final = re.compile(r"merge\..*\.driver", re.DOTALL)


class GitError(LocalFileError):
    """The git program refused, or is not there."""

    default_remedy = "Look at the repository with git itself; everything else was handled."


class Program:
    """Runs git on one repository.

    Args:
        git_dir, work_tree: absolute paths; a bare repository's work tree is its git directory.
        config: what the repository's own configuration sets, for what must be overridden.
    """

    def __init__(
        self, git_dir: bytes, work_tree: bytes, config: Mapping[str, str] | None = None
    ) -> None:
        self.git_dir = git_dir
        self.work_tree = work_tree
        self._overrides = list(_OVERRIDES)
        self._overrides += [
            f"{key}={'false' if key.endswith('.required') else ''}"
            for key in config or ()
            if _EXECUTING.fullmatch(key) and not _REFUSED_DRIVER.fullmatch(key)
        ]
        self._git = _git(os.fsdecode(work_tree if os.path.isdir(work_tree) else git_dir))

    def run(
        self,
        *arguments: str | bytes,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
    ) -> bytes:
        """Run a command and return what it printed; with ``stdout`` that file takes it.

        Raises:
            GitError: it ended with another status than those of ``accept``.
        """
        status, out, err = self.call(
            *arguments, stdin=stdin, stdout=stdout, environment=environment
        )
        if status not in accept:
            words = " ".join(os.fsdecode(a) for a in arguments[:2])
            raise GitError(f"git {words} failed ({status}): {_brief(err)}")
        return out

    def call(
        self,
        *arguments: str | bytes,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a command: exit status, what it printed, what it complained."""
        import tempfile

        command: list[str] = [self._git.GIT_PYTHON_GIT_EXECUTABLE]
        for override in self._overrides:
            command += ["-c", override]
        command += [
            f"--git-dir={os.fsdecode(self.git_dir)}",
            f"--work-tree={os.fsdecode(self.work_tree)}",
            *(os.fsdecode(a) for a in arguments),
        ]
        with tempfile.TemporaryFile() as given:
            source: Any = stdin
            if isinstance(stdin, bytes):
                given.write(stdin)
                given.seek(0)
                source = given
            elif stdin is None:
                source = given
            options: dict[str, Any] = {"output_stream": stdout} if stdout is not None else {}
            status, out, err = self._git.execute(
                command,
                istream=source,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                env=self._environment(environment or {}),
                **options,
            )
        return int(status), out if isinstance(out, bytes) else b"", _bytes(err)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        git_dir = os.fsdecode(self.git_dir)
        return {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_CONFIG_COUNT": "0",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "false",
            "SSH_ASKPASS": "false",
            "GIT_SSH_COMMAND": "false",
            "GIT_EDITOR": "false",
            "GIT_PAGER": "cat",
            "GIT_EXTERNAL_DIFF": "",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            # Somebody may run us from a hook, where these name another repository.
            "GIT_COMMON_DIR": git_dir,
            "GIT_OBJECT_DIRECTORY": os.path.join(git_dir, "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_INDEX_FILE": os.path.join(git_dir, "index"),
            "GIT_NAMESPACE": "",
            "GIT_TRACE": "0",
            "GIT_TRACE2": "0",
            "GIT_TRACE2_EVENT": "0",
            "GIT_TRACE2_PERF": "0",
            **more,
        }


def merge_drivers(config: Iterable[str]) -> list[str]:
    """Settings that would run a program during a merge."""
    return [key for key in config if _REFUSED_DRIVER.fullmatch(key)]


def has_filters(config: Iterable[str]) -> bool:
    """Whether content may be rewritten by programs on its way to and from the work tree."""
    return any(key.startswith("filter.") for key in config)


def program_missing() -> str:
    """Why the git program cannot be used; empty if it can."""
    try:
        _git(str(Path.cwd()))
    except GitError as error:
        return error.message
    return ""


def _git(directory: str) -> Any:
    # GitPython looks for the program when it is imported, which takes a while: only when needed.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        from git.cmd import Git
    except ImportError as error:
        raise GitError(f"git cannot be used: {error}") from None
    if not _usable():
        raise GitError("the git program is not installed", remedy="Install git.")
    return Git(directory)


_found: list[bool] = []


def _usable() -> bool:
    import shutil

    if not _found:
        _found.append(shutil.which("git") is not None)
    return _found[0]


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""


def _brief(err: bytes) -> str:
    lines = [line for line in err.strip().splitlines() if line][:3]
    return show(b"; ".join(lines)[:400]) or "no message"
