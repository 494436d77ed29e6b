"""Credentials from several places."""

import os

import pytest

from tcfs.config import Config
from tcfs.errors import AccessError, ConfigError
from tcfs.secrets.chain import (
    FILER_KEY,
    S3_ACCESS,
    S3_SECRET,
    S3_TOKEN,
    CredentialChain,
    Found,
    SourceState,
)
from tcfs.secrets.sources import (
    AWS,
    OURS,
    DirectorySource,
    EnvironmentSource,
    FileSource,
    credential_chain,
    format_credentials,
    parse_credentials,
)

PAIR = (S3_ACCESS, S3_SECRET)


def hit(chain: CredentialChain, *names: str) -> Found:
    found = chain.find(*names)
    assert found is not None
    return found


class Fixed:
    """A source that holds what a test says, and counts how often it is read."""

    def __init__(self, name, **values):
        self.name = name
        self.values = {key.replace("_", "-"): value for key, value in values.items()}
        self.reads = 0

    def state(self):
        return SourceState(self.name, bool(self.values))

    def stamp(self):
        return tuple(self.values.items())

    def read(self):
        self.reads += 1
        return dict(self.values)


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_the_first_source_that_has_what_is_asked_for_wins():
    first = Fixed("first", filer_key="F")
    second = Fixed("second", s3_access="A", s3_secret="B")
    third = Fixed("third", s3_access="C", s3_secret="D", filer_key="G")
    chain = CredentialChain([first, second, third])
    assert hit(chain, *PAIR).source == "second"
    assert hit(chain, *PAIR).values[S3_ACCESS] == "A"
    assert hit(chain, FILER_KEY).source == "first"
    assert CredentialChain([first]).find(*PAIR) is None


def test_a_source_with_half_of_a_pair_is_an_error_and_not_passed_over():
    chain = CredentialChain([Fixed("half", s3_access="A"), Fixed("whole", s3_access="B")])
    with pytest.raises(ConfigError, match="half has s3-access and no s3-secret"):
        chain.find(*PAIR)


def test_a_source_is_read_again_only_when_its_stamp_changes():
    source = Fixed("one", s3_access="A", s3_secret="B")
    chain = CredentialChain([source])
    assert [hit(chain, *PAIR).values[S3_ACCESS] for _ in range(3)] == ["A"] * 3
    assert source.reads == 1
    source.values[S3_ACCESS] = "C"
    assert hit(chain, *PAIR).values[S3_ACCESS] == "C"
    assert source.reads == 2


def test_values_are_in_no_text_that_a_chain_gives():
    chain = CredentialChain([Fixed("one", s3_access="A-VALUE", s3_secret="S-VALUE")])
    assert "VALUE" not in repr(chain.find(*PAIR)) + repr(chain.states())


def test_the_order_is_environment_then_systemd_then_file_then_aws(tmp_path):
    file = private(tmp_path / "credentials", "s3-access = F\ns3-secret = f\n")
    systemd = tmp_path / "systemd"
    systemd.mkdir()
    (systemd / S3_ACCESS).write_text("D\n")
    (systemd / S3_SECRET).write_text("d\n")
    config = Config.model_validate({"storage": {"credentials_file": file}})
    environ = {
        "TCFS_S3_ACCESS": "T",
        "TCFS_S3_SECRET": "t",
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "a",
        "CREDENTIALS_DIRECTORY": str(systemd),
    }
    for variable, name, value in (
        ("TCFS_S3_", "environment TCFS_S3_ACCESS", "T"),
        ("AWS_", "environment AWS_ACCESS_KEY_ID", "A"),
        ("CREDENTIALS_DIRECTORY", "$CREDENTIALS_DIRECTORY", "D"),
        ("", "storage.credentials_file", "F"),
    ):
        found = hit(credential_chain(config, environ=environ), *PAIR)
        assert (found.source, found.values[S3_ACCESS]) == (name, value)
        if variable:
            environ = {key: one for key, one in environ.items() if not key.startswith(variable)}
    names = [state.name for state in credential_chain(config, environ={}).states()]
    assert names == [
        "environment TCFS_S3_ACCESS",
        "environment AWS_ACCESS_KEY_ID",
        "storage.credentials_file",
        "AWS configuration",
    ]


def test_the_aws_configuration_is_asked_last(tmp_path, monkeypatch):
    file = tmp_path / "aws"
    file.write_text(
        "[default]\naws_access_key_id = W\naws_secret_access_key = w\n"
        "[other]\naws_access_key_id = O\naws_secret_access_key = o\naws_session_token = k\n"
    )
    for variable in AWS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    found = hit(credential_chain(Config(), environ={}), *PAIR)
    assert (found.source, found.values[S3_ACCESS]) == ("AWS configuration", "W")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert hit(credential_chain(Config(), environ={}), *PAIR).values[S3_TOKEN] == "k"
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(ConfigError, match="absent"):
        credential_chain(Config(), environ={}).find(*PAIR)


def test_a_changed_file_is_taken_up_and_a_removed_one_is_an_error(tmp_path):
    file = private(tmp_path / "credentials", "s3-access = A\ns3-secret = a\n")
    chain = CredentialChain([FileSource(file, "storage.credentials_file")])
    assert hit(chain, *PAIR).values[S3_ACCESS] == "A"
    new = private(tmp_path / "new", "s3-access = B\ns3-secret = b\n")
    os.replace(new, file)
    assert hit(chain, *PAIR).values[S3_ACCESS] == "B"
    file.unlink()
    with pytest.raises(ConfigError, match="is not there"):
        chain.find(*PAIR)


def test_a_file_that_others_can_read_is_refused_and_says_how_to_mend_it(tmp_path):
    file = private(tmp_path / "credentials", "s3-access = A\ns3-secret = HIDDEN\n")
    file.chmod(0o640)
    source = FileSource(file, "storage.credentials_file")
    assert "others can read it" in source.state().detail
    with pytest.raises(AccessError) as caught:
        source.read()
    assert "chmod 600" in caught.value.remedy
    assert "HIDDEN" not in str(caught.value.to_json())


def test_a_directory_without_our_files_holds_nothing(tmp_path):
    source = DirectorySource(tmp_path)
    assert source.read() == {}
    assert not source.state().present
    (tmp_path / FILER_KEY).write_text("key\n")
    assert source.read() == {FILER_KEY: "key"}
    assert "filer-key" in source.state().detail


def test_an_empty_variable_counts_as_unset():
    source = EnvironmentSource({"TCFS_S3_ACCESS": ""}, OURS)
    assert source.read() == {}
    assert not source.state().present


@pytest.mark.parametrize(
    "text",
    [
        "s3-access = AK\ns3-secret = a=b\n",
        "# ours\n\nS3_ACCESS=AK\nS3_SECRET=a=b",
        "[default]\naws_access_key_id = AK\naws_secret_access_key = a=b\nregion = here\n",
        "export TCFS_S3_ACCESS='AK'\nexport TCFS_S3_SECRET=\"a=b\"\n",
    ],
)
def test_credentials_files_of_several_kinds_are_read(text):
    assert parse_credentials(text, "f") == {S3_ACCESS: "AK", S3_SECRET: "a=b"}


@pytest.mark.parametrize(
    "text",
    ["s3-access HIDDEN", "s3-access=1\ns3-access=HIDDEN", "[a]\n[HIDDEN]\n"],
)
def test_a_line_that_means_nothing_is_an_error_that_shows_its_number_alone(text):
    with pytest.raises(ConfigError, match=f"line {len(text.splitlines())}") as caught:
        parse_credentials(text, "f")
    assert "HIDDEN" not in str(caught.value.to_json())


def test_what_is_written_is_read_back():
    values = {S3_ACCESS: "a", S3_SECRET: "b c=", S3_TOKEN: "t", FILER_KEY: "k"}
    assert parse_credentials(format_credentials(values), "f") == values


def test_a_file_that_is_no_text_or_too_long_is_refused(tmp_path):
    file = tmp_path / "credentials"
    for data in (b"\xff\xfe\x00", b"x" * 100_000):
        file.write_bytes(data)
        file.chmod(0o600)
        with pytest.raises(ConfigError):
            FileSource(file, "storage.credentials_file").read()
