"""Storing bytes that are on no disk of the user's: a merge, say."""

from __future__ import annotations

from tcfs.content.ingest import SourceFile, StoredFile
from tcfs.errors import LocalFileError
from tcfs.sync.context import Context
from tcfs.sync.upload import Upload


def store_bytes(context: Context, upload: Upload, data: bytes) -> StoredFile:
    """Store these bytes like a file's content, by way of a file beside the state.

    Raises:
        LocalFileError: the temporary file cannot be written or read.
    """
    directory = bytes(context.state.database.path.parent)
    path = directory + b"/merge-" + context.host.entropy.token(8).hex().encode()
    files = context.host.files
    try:
        stat = files.write_new(path, [data], 0o600, int(context.host.clock.now() * 1e9))
        try:
            for answer in upload.store([SourceFile(path, stat, 0)]):
                if isinstance(answer, StoredFile):
                    return answer
        finally:
            files.unlink(path)
    except OSError as error:
        raise LocalFileError(f"cannot write beside the state: {error.strerror}") from error
    raise LocalFileError("a temporary file of ours changed while it was read")
