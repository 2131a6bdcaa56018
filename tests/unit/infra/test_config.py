"""Ports and secrets: chosen once, kept, and private."""

import json
import socket
from pathlib import Path

import pytest

from infra.embedded import config
from infra.embedded.errors import StackError


def test_ports_are_kept_from_one_start_to_the_next(tmp_path: Path) -> None:
    first = config.choose_ports(tmp_path, {})
    assert set(first) == set(config.PORT_NAMES)
    assert len(set(first.values())) == len(first)
    assert config.choose_ports(tmp_path, {}) == first


def test_ports_stay_clear_of_those_that_clients_are_given(tmp_path: Path) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest > 16_000:
        assert max(config.choose_ports(tmp_path, {}).values()) < lowest


def test_a_kept_port_that_is_taken_gives_way_to_a_free_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"kafka": taken}))
        assert config.choose_ports(tmp_path, {})["kafka"] != taken


def test_a_told_port_is_used_and_a_kept_one_makes_room(tmp_path: Path) -> None:
    kept = config.choose_ports(tmp_path, {})["redis"]
    ports = config.choose_ports(tmp_path, {"ingest": kept})
    assert ports["ingest"] == kept
    assert ports["redis"] != kept


def test_one_port_for_two_parts_is_an_error_that_names_both(tmp_path: Path) -> None:
    free = config.choose_ports(tmp_path, {})["api"]
    with pytest.raises(StackError, match=f"port {free} is asked for twice, for ingest and api"):
        config.choose_ports(tmp_path, {"ingest": free, "api": free})


def test_a_told_port_that_is_taken_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {taken}, asked for api, is taken"):
            config.choose_ports(tmp_path, {"api": taken})


def test_a_port_that_is_listened_on_everywhere_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as holder:  # noqa: S104 - the case under test
        assert not config.is_free(holder.getsockname()[1])


def test_secrets_are_made_once_differ_and_are_private(tmp_path: Path) -> None:
    made = config.open_secrets(tmp_path)
    assert config.open_secrets(tmp_path) == made
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert config.open_secrets(tmp_path / "other") != made


def test_api_keys_have_256_random_bits_behind_a_prefix(tmp_path: Path) -> None:
    key = config.open_secrets(tmp_path).api_key
    assert key.startswith("tb_")
    assert len(key) == len("tb_") + 43


def test_kafka_cluster_ids_never_begin_with_a_dash() -> None:
    assert all(config._cluster_id()[0] >> 2 != 62 for _ in range(500))
