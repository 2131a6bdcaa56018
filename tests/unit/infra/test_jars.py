"""Kafka's jars: a list with checksums, and a cache that is believed only after a look."""

import hashlib
import os
from pathlib import Path

from infra.embedded.jars import ROOTS, Jar, cache_directory, jar_paths, missing_jars, read_lock


def test_the_list_names_every_root_and_nothing_twice() -> None:
    jars = read_lock()
    coordinates = [jar.coordinates for jar in jars]
    assert set(ROOTS) <= set(coordinates)
    assert len(set(coordinates)) == len(jars)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)


def test_a_jar_counts_as_present_only_with_its_own_bytes(tmp_path: Path) -> None:
    content = b"a jar"
    jar = Jar("g", "a", "1", len(content), hashlib.sha256(content).hexdigest())
    (path,) = jar_paths([jar], tmp_path)
    assert missing_jars([jar], tmp_path) == [jar]
    path.write_bytes(content[:-1])
    assert missing_jars([jar], tmp_path) == [jar]
    path.write_bytes(content[::-1])
    assert missing_jars([jar], tmp_path) == [jar]
    path.write_bytes(content)
    assert missing_jars([jar], tmp_path) == []


def test_downloads_are_kept_where_the_environment_says() -> None:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    assert cache_directory() == Path(base) / "tollbook"
