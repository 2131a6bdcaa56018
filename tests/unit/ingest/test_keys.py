"""API keys in memory."""

import hashlib

from ingest.keys import ApiKey, KeyRing

OWNER = ApiKey("acme", "owner", is_revoked=False, open_for_history=False)


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def ring(**keys: ApiKey) -> KeyRing:
    made = KeyRing()
    made.replace({digest(key): value for key, value in keys.items()}, now=100.0)
    return made


def test_a_bearer_key_is_found_by_its_hash() -> None:
    keys = ring(tb_one=OWNER)
    assert keys.find(b"Bearer tb_one") is OWNER
    assert keys.find(b"bearer  tb_one ") is OWNER
    assert keys.find(b"Bearer tb_two") is None
    assert keys.find(b"Basic tb_one") is None
    assert keys.find(b"tb_one") is None
    assert keys.find(b"") is None


def test_a_withdrawn_key_is_gone_with_the_next_refresh() -> None:
    keys = ring(tb_one=OWNER)
    assert keys.find(b"Bearer tb_one") is OWNER
    keys.replace({}, now=101.0)
    assert keys.find(b"Bearer tb_one") is None


def test_only_live_keys_of_a_sending_role_may_send() -> None:
    assert OWNER.may_ingest
    assert not ApiKey("acme", "owner", is_revoked=True, open_for_history=False).may_ingest
    assert not ApiKey("acme", "reader", is_revoked=False, open_for_history=False).may_ingest


def test_unknown_keys_cause_at_most_one_refresh_a_second() -> None:
    keys = ring()
    assert not keys.is_refresh_due(100.9)
    assert keys.is_refresh_due(101.0)
    keys.note_attempt(101.0)
    assert not keys.is_refresh_due(101.5)
