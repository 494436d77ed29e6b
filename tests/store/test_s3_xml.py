"""What S3 servers say in XML, and what they must not."""

from __future__ import annotations

import pytest

from tcfs.store.s3_xml import parse

LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix>
  <IsTruncated>true</IsTruncated>
  <Contents><Key>a%20b</Key><Size>3</Size><ETag>&quot;e&amp;1&quot;</ETag>
    <Owner><ID>who</ID></Owner></Contents>
  <Contents><Key>c</Key><Size>0</Size><ETag>x</ETag></Contents>
  <CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>
</ListBucketResult>"""


def test_values_and_records_of_a_listing_are_read_in_order():
    found = parse(LISTING.encode())
    assert found is not None
    assert found.root == "ListBucketResult"
    assert found.values == {"Name": "b", "Prefix": "", "IsTruncated": "true"}
    kinds = [kind for kind, _ in found.records]
    assert kinds == ["Contents", "Contents", "CommonPrefixes"]
    first = found.records[0][1]
    assert (first["Key"], first["Size"], first["ETag"]) == ("a%20b", "3", '"e&1"')
    assert found.records[2][1] == {"Prefix": "d/"}


def test_prefixed_names_are_the_same_names():
    found = parse(b'<s:Error xmlns:s="x"><s:Code>NoSuchKey</s:Code></s:Error>')
    assert found is not None
    assert (found.root, found.values) == ("Error", {"Code": "NoSuchKey"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Not found",
        b"{}",
        b"<Error><Code>x</Code>",
        b"\xff\xfe<",
        b'<!DOCTYPE e [<!ENTITY a "aaaa">]><Error><Code>&a;</Code></Error>',
        b'<!DOCTYPE e SYSTEM "file:///etc/passwd"><Error></Error>',
    ],
)
def test_what_is_no_xml_or_declares_entities_is_nothing(body):
    assert parse(body) is None
