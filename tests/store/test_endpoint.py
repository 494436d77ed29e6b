"""URLs of stores: what they mean, and that what is kept stands alone."""

import pytest

from tcfs.errors import ConfigError
from tcfs.store.endpoint import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("file:///srv/tcfs", "file:///srv/tcfs?prefix=p"),
        ("file:///srv/a%20b?prefix=x/y", "file:///srv/a%20b?prefix=x/y/p"),
        ("memory://m", "memory://m?prefix=p"),
        ("s3://other", "s3://other/p?region=eu-north-1"),
        ("s3://other/in/side/", "s3://other/in/side/p?region=eu-north-1"),
        ("https://Host.example", "s3+https://host.example/bucket/p?region=eu-north-1"),
        ("http://host:8333/", "s3+http://host:8333/bucket/p?region=eu-north-1"),
        ("http://host:8333/other", "s3+http://host:8333/other/p?region=eu-north-1"),
        ("http://[::1]:8333/other/a", "s3+http://[::1]:8333/other/a/p?region=eu-north-1"),
        ("s3+https://h/other?region=us-west-2", "s3+https://h/other/p?region=us-west-2"),
        ("seaweedfs://host:8888", "seaweedfs://host:8888/p"),
        ("seaweedfs+https://host/fleet/", "seaweedfs+https://host/fleet/p"),
    ],
)
def test_settings_complete_a_url_and_the_result_stands_alone(text, url):
    place = parse_endpoint(text, bucket="bucket", prefix="p", region="eu-north-1")
    assert place.url == url
    again = parse_endpoint(url)
    assert again.url == url
    assert again == place or place.kind in ("file", "memory", "seaweedfs")


def test_a_url_of_amazon_may_lead_to_another_server():
    place = parse_endpoint("s3://bucket/a", aws_server="http://127.0.0.1:8333")
    assert place.url == "s3+http://127.0.0.1:8333/bucket/a"


@pytest.mark.parametrize(
    ("text", "encrypted"),
    [
        ("http://h/bucket", False),
        ("https://h/bucket", True),
        ("s3://bucket", True),
        ("seaweedfs://h/x", False),
        ("seaweedfs+https://h/x", True),
        ("file:///srv", True),
    ],
)
def test_it_is_known_which_way_is_encrypted(text, encrypted):
    assert parse_endpoint(text).encrypted is encrypted


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3://B",
        "s3://ab",
        "s3://bucket/A",
        "s3://bucket/../x",
        "s3://bucket?x=1",
        "s3://bucket?region=a&region=b",
        "s3://bucket?region=../x",
        "http://h",
        "http:///bucket",
        "http://h:x/bucket",
        "http://ACCESS:S3CRET@h/bucket",
        "http://h/bucket#S3CRET",
        "seaweedfs://",
        "seaweedfs://h/Ä",
        "s3+ftp://h/bucket",
        "https://h/bucket/" + "p" * 300,
    ],
)
def test_what_names_no_store_is_refused_without_showing_more_than_its_scheme(text):
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(text)
    assert "S3CRET" not in repr(caught.value.to_json())
    assert caught.value.remedy


def test_a_place_made_of_fields_has_the_url_that_leads_back():
    place = Endpoint("s3", "http://h:1", name="bucket", prefix="a", region="us-east-1")
    assert parse_endpoint(place.url) == place
