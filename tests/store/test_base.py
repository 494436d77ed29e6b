"""Keys and conditions."""

import pytest

from tcfs.errors import StoreError
from tcfs.model.ids import StoreKey
from tcfs.store.base import (
    IF_ABSENT,
    Condition,
    ETag,
    ObjectMissing,
    PreconditionFailed,
    StoreRefused,
    check_condition,
    check_key,
    check_prefix,
)

KEY = StoreKey("a")


@pytest.mark.parametrize(
    "key",
    [
        "format.json",
        "tcfs-meta/devices.json",
        "keys/default/" + "0" * 32 + "/recovery-" + "f" * 64,
        "packs/aa/" + "a" * 64,
        "ledger/_control/root/0000000001-" + "0" * 64,
        "ledger/a.b_c-d/11111111-2222-3333-4444-555555555555/0000000001-" + "0" * 64,
    ],
)
def test_every_key_of_the_format_is_a_key(key):
    assert check_key(key) == key
    assert check_prefix(key + "/") == key + "/"


def test_a_condition_is_met_by_the_state_it_names_alone():
    check_condition(Condition(), None, KEY)
    check_condition(Condition(), ETag("1"), KEY)
    check_condition(IF_ABSENT, None, KEY)
    check_condition(Condition(if_match=ETag("1")), ETag("1"), KEY)
    for condition, current in (
        (IF_ABSENT, ETag("1")),
        (Condition(if_match=ETag("1")), None),
        (Condition(if_match=ETag("1")), ETag("2")),
    ):
        with pytest.raises(PreconditionFailed):
            check_condition(condition, current, KEY)


def test_only_failures_that_may_pass_are_worth_another_try():
    assert StoreError("x").retryable
    for kind in (ObjectMissing, PreconditionFailed, StoreRefused):
        assert not kind("x").retryable
        assert kind("x").exit_code == StoreError.exit_code
