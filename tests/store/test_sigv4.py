"""Signatures, held beside botocore's, which is not used to make them."""

from __future__ import annotations

import time

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from tcfs.store.sigv4 import S3Keys, encoded_path, encoded_query, signed

NOW = 1_700_000_000.0
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
KEYS = S3Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = S3Keys("ASIAEXAMPLE", "secret/secret", "token//with+signs=")


def by_botocore(method, path, query, headers, keys, monkeypatch) -> str:
    def fixed(remove_tzinfo: bool = True):
        import datetime

        when = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
        return when.replace(tzinfo=None) if remove_tzinfo else when

    monkeypatch.setattr("botocore.auth.get_current_datetime", fixed)
    host = headers["Host"]
    url = f"http://{host}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers={k: v for k, v in headers.items() if k != "Host"})
    credentials = ReadOnlyCredentials(keys.access, keys.secret, keys.token or None)
    S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    return request.headers["Authorization"]


@pytest.mark.parametrize("keys", [KEYS, SESSION])
@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("GET", "/bucket/packs/00/one", {}, {}),
        ("GET", "/bucket", {"list-type": "2", "prefix": "a b/ü&=", "max-keys": "7"}, {}),
        ("PUT", "/bucket/A key ~ with +, ü and 'x'", {}, {"If-None-Match": "*"}),
        ("GET", "/p//double", {}, {"Range": "bytes=0-9"}),
        ("POST", "/bucket/x", {"uploads": ""}, {}),
        ("PUT", "/bucket/x", {"uploadId": "a/b+c==", "partNumber": "3"}, {"If-Match": '"e  e"'}),
    ],
)
def test_a_signature_is_what_botocore_makes(method, path, query, headers, keys, monkeypatch):
    path, asked = encoded_path(path), encoded_query(query)
    said = {"Host": "s3.example:8333", **headers}
    ours = signed(method, path, asked, said, EMPTY, keys=keys, region="eu-central-1", now=NOW)
    assert ours["Authorization"] == by_botocore(method, path, asked, said, keys, monkeypatch)
    assert ours["X-Amz-Date"] == time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(NOW))
    assert ours.get("X-Amz-Security-Token", "") == keys.token


def test_keys_show_nothing_of_themselves():
    assert "secret" not in repr(SESSION)
    assert "token" not in repr(SESSION)
