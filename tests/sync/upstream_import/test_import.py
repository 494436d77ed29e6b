"""Files of a bucket that the Rust tcfs left, read onto the disk."""

import json
import os

import pytest
from blake3 import blake3

from tcfs.config.load import load_config
from tcfs.errors import IntegrityError, LocalFileError, UsageError
from tcfs.secrets.chain import S3_ACCESS, S3_SECRET
from tcfs.secrets.sources import format_credentials
from tcfs.store.base import ObjectMissing
from tcfs.sync.upstream_import.formats import hchacha20, seal
from tcfs.sync.upstream_import.objects import DirectoryObjects
from tcfs.sync.upstream_import.restore import Restorer
from tcfs.sync.upstream_import.run import import_upstream
from tests.servers import BUCKET, s3_client, unique
from tests.sync.kit import World, contents
from tests.sync.upstream_import.bucket import MASTER, WRITTEN_AT, Upstream


@pytest.fixture
def upstream(tmp_path):
    return Upstream(tmp_path / "bucket")


@pytest.fixture
def restore(upstream, tmp_path):
    def run(key: bytes = MASTER):
        with Restorer(DirectoryObjects(os.fsencode(upstream.top)), key) as restorer:
            return restorer.tree(os.fsencode(tmp_path / "out"))

    return run


def noise(size: int) -> bytes:
    return os.urandom(size)


def test_xchacha20_gives_what_its_draft_says():
    """draft-irtf-cfrg-xchacha-03, 2.2.1 and A.3.1."""
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    assert hchacha20(MASTER, nonce).hex() == (
        "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    )
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    sealed = seal(key, nonce, text, bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))
    assert sealed[24:32].hex() == "bd6d179d3e83d43b"
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"


def test_files_of_every_kind_come_back_with_their_time_and_clocks(upstream, restore, tmp_path):
    wanted = {
        "notes.txt": b"hello",
        "deep/er/Ünïcode name": noise(1000),
        "large": noise(1_200_000),
        "empty": b"",
    }
    for path, data in wanted.items():
        upstream.file(path, data)
    wanted["secret"], wanted["old/v1"] = noise(33_000), noise(12_000)
    upstream.file("secret", wanted["secret"], key=noise(32))
    upstream.file_v1("old/v1", wanted["old/v1"])
    report = restore()
    assert report.problems == []
    assert contents(tmp_path / "out") == wanted
    assert (report.files, report.bytes) == (6, sum(map(len, wanted.values())))
    assert report.clocks["secret"] == {"yoga": 3, "bates": 1}
    assert "old/v1" not in report.clocks
    assert (tmp_path / "out" / "notes.txt").stat().st_mtime == WRITTEN_AT


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a\\..\\..\\b/.."])
def test_a_path_that_leads_out_is_refused_and_the_rest_comes(upstream, restore, tmp_path, path):
    upstream.file("good", b"good")
    # As a name of an object: a directory cannot hold it.
    objects = DirectoryObjects(os.fsencode(upstream.top))
    digest = blake3(b"good").hexdigest()
    entry = f"manifest_hash={digest}\n".encode()

    class WithBadName:
        def names(self, start):
            yield f"index/{path}"
            yield from objects.names(start)

        def read(self, name):
            return entry if name == f"index/{path}" else objects.read(name)

        def close(self):
            pass

    with Restorer(WithBadName()) as restorer:
        report = restorer.tree(os.fsencode(tmp_path / "out"))
    assert report.problem_count == 1
    assert contents(tmp_path / "out") == {"good": b"good"}
    assert not (tmp_path / "outside").exists()


def test_what_is_damaged_missing_or_sealed_otherwise_is_a_problem_and_leaves_nothing(
    upstream, restore, tmp_path
):
    upstream.file("good", b"good")
    first = upstream.file("damaged", noise(20_000))
    chunks = json.loads((upstream.top / "manifests" / first).read_text())["chunks"]
    (upstream.top / "chunks" / chunks[1]).write_bytes(b"other bytes")
    second = upstream.file("missing", noise(20_000))
    chunks = json.loads((upstream.top / "manifests" / second).read_text())["chunks"]
    (upstream.top / "chunks" / chunks[2]).unlink()
    upstream.file("swapped", noise(20_000), chunks=upstream.chunks(noise(20_000)))
    third = upstream.file("corrupt json", b"corrupt json")
    (upstream.top / "manifests" / third).write_bytes(b'{"version": 2, "chu')
    (upstream.top / "index" / "no manifest").write_bytes(b"size=3\n")
    upstream.file("sealed", noise(9000), key=noise(32))
    report = restore(key=bytes(32))
    assert sorted(problem.path for problem in report.problems) == [
        "corrupt json",
        "damaged",
        "missing",
        "no manifest",
        "sealed",
        "swapped",
    ]
    assert contents(tmp_path / "out") == {"good": b"good"}


def test_an_encrypted_file_without_a_key_says_what_to_give(upstream, restore):
    upstream.file("secret", b"secret", key=noise(32))
    report = restore(key=b"")
    assert "--master-key-file" in report.problems[0].remedy


def test_chunks_that_changed_places_do_not_open(upstream, restore):
    digest = upstream.file("secret", noise(20_000), key=noise(32))
    path = upstream.top / "manifests" / digest
    manifest = json.loads(path.read_text())
    manifest["chunks"][0], manifest["chunks"][1] = manifest["chunks"][1], manifest["chunks"][0]
    path.write_text(json.dumps(manifest))
    assert restore().problem_count == 1


def test_a_path_that_is_a_file_and_a_directory_comes_once(upstream, tmp_path):
    upstream.file("a", b"file")
    upstream.file("b", b"below")
    objects = DirectoryObjects(os.fsencode(upstream.top))

    class Both:
        def names(self, start):
            yield from ("index/a", "index/a/b")

        def read(self, name):
            return objects.read("index/b" if name == "index/a/b" else name)

        def close(self):
            pass

    with Restorer(Both()) as restorer:
        report = restorer.tree(os.fsencode(tmp_path / "out"))
    assert contents(tmp_path / "out") == {"a": b"file"}
    assert [problem.path for problem in report.problems] == ["a/b"]


def test_nothing_that_is_there_is_written_over(upstream, tmp_path):
    digest = upstream.file("a", b"theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with Restorer(DirectoryObjects(os.fsencode(upstream.top))) as restorer:
        with pytest.raises(UsageError):
            restorer.tree(os.fsencode(tmp_path / "out"))
        with pytest.raises(LocalFileError):
            restorer.file(digest, os.fsencode(tmp_path / "out" / "mine"))
        restorer.file(digest, os.fsencode(tmp_path / "out" / "theirs"))
        with pytest.raises(ObjectMissing):
            restorer.file("0" * 64, os.fsencode(tmp_path / "out" / "none"))
    assert contents(tmp_path / "out") == {"mine": b"mine", "theirs": b"theirs"}


def test_a_bucket_is_read_and_pushed_into_the_fleet(weed_server, upstream, tmp_path):
    wanted = {"Notes.TXT": b"hello", "dir/large": noise(200_000)}
    for path, data in wanted.items():
        upstream.file(path, data, key=noise(32))
    digest = blake3(wanted["dir/large"]).hexdigest()
    prefix = unique("Rust")
    client = s3_client(weed_server)
    for file in upstream.top.rglob("*"):
        if file.is_file():
            key = f"{prefix.lower()}/{file.relative_to(upstream.top)}"
            client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
    client.close()
    credentials = tmp_path / "credentials"
    values = {S3_ACCESS: weed_server.access, S3_SECRET: weed_server.secret}
    credentials.write_text(format_credentials(values))
    key_file = tmp_path / "master"
    key_file.write_text(MASTER.hex() + "\n")
    for private in (credentials, key_file):
        private.chmod(0o600)
    loaded = load_config(
        environ={
            "HOME": str(tmp_path),
            "TCFS_HOME": str(tmp_path / "home"),
            "TCFS_REMOTE": weed_server.s3_endpoint,
            "TCFS_STORAGE_CREDENTIALS_FILE": str(credentials),
        }
    )
    world = World(tmp_path / "world")
    anna, ben = world.devices("anna", "ben")
    target = anna.path("imported")
    source = f"s3://{BUCKET}/{prefix.lower()}"
    report = import_upstream(loaded, source, target, master_key_file=key_file)
    assert report.problems == []
    anna.push()
    ben.pull()
    assert ben.contents() == {f"imported/{path}": data for path, data in wanted.items()}
    one = os.fsencode(tmp_path / "one")
    import_upstream(loaded, f"{source}/manifests/{digest}", one, master_key_file=key_file)
    assert (tmp_path / "one").read_bytes() == wanted["dir/large"]
    with pytest.raises(IntegrityError):
        import_upstream(loaded, f"{source}/manifests/../x", one)
    world.close()


def test_a_master_key_that_is_none_is_refused(tmp_path, upstream):
    loaded = load_config(environ={"HOME": str(tmp_path), "TCFS_HOME": str(tmp_path / "home")})
    key_file = tmp_path / "master"
    key_file.write_text("not a key")
    key_file.chmod(0o600)
    with pytest.raises(UsageError, match="no master key"):
        import_upstream(
            loaded,
            upstream.top.as_uri(),
            os.fsencode(tmp_path / "out"),
            master_key_file=key_file,
        )
