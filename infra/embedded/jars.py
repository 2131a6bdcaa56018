"""Kafka's jars: fetched once by jgo, checked against a committed list, kept in a cache.

A jar is in the cache only under its right checksum: it is fetched beside the cache, compared, then
moved in. So a stopped download, a broken disk or a tampered mirror shows as an error, never as a
broker that fails in a strange way.
"""

import hashlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded.errors import StackError

ROOTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36")
"""What is wanted: Kafka, and a backend without which it logs nothing, not even a taken port."""

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
MIRROR_VARIABLE = "TOLLBOOK_MAVEN_MIRROR"
"""Names a Maven repository to fetch from instead of Maven Central."""

LOCK = Path(__file__).with_name("kafka_jars.lock")

Progress = Callable[[str, int], None]
"""Called with a jar's coordinates and its size in bytes as it becomes present."""


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar of the list."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def coordinates(self) -> str:
        """The Maven coordinates."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        """The name in the cache: unique, since the group is part of it."""
        return f"{self.group}.{self.artifact}-{self.version}.jar"


def cache_directory() -> Path:
    """Return where downloads are kept between stacks and clones."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tollbook"


def read_lock(path: Path = LOCK) -> list[Jar]:
    """Return the committed list."""
    jars = []
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinates, size, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, int(size), sha256))
    return jars


def jar_paths(jars: Iterable[Jar], directory: Path) -> list[Path]:
    """Return where the jars lie in the cache, present or not."""
    return [directory / jar.file_name for jar in jars]


def missing_jars(jars: Iterable[Jar], directory: Path) -> list[Jar]:
    """Return the jars that are absent from the cache, or there with other bytes."""
    return [jar for jar in jars if not _is_present(jar, directory / jar.file_name)]


def fetch_jars(jars: Sequence[Jar], directory: Path, progress: Progress) -> None:
    """Fetch jars into the cache, several at once.

    Raises:
        StackError: a jar cannot be had, has another checksum, or cannot be stored.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as landing,
            ThreadPoolExecutor(8) as pool,
        ):
            context = _maven_context(Path(landing))
            running = [pool.submit(_fetch, jar, directory, context) for jar in jars]
            try:
                for jar, future in zip(jars, running, strict=True):
                    future.result()
                    progress(jar.coordinates, jar.size)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except OSError as error:
        raise StackError(
            f"Kafka's jars cannot be stored in {directory}: {error.strerror or error}",
            "Free some space there, or set XDG_CACHE_HOME to a folder that can be written to.",
        ) from error


def write_lock(path: Path = LOCK) -> None:
    """Resolve the roots anew and write the list: for a change of Kafka's version."""
    import jgo  # noqa: PLC0415 - half a second, needed only when fetching

    with tempfile.TemporaryDirectory() as landing:
        os.environ["M2_REPO"] = landing
        lines = []
        for found in jgo.resolve("+".join(ROOTS)):
            content = Path(found.resolve()).read_bytes()
            name = f"{found.groupId}:{found.artifactId}:{found.version}"
            lines.append(f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}")
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    path.write_text("\n".join([*head, *sorted(lines)]) + "\n")


def _is_present(jar: Jar, path: Path) -> bool:
    try:
        return path.stat().st_size == jar.size and _digest(path) == jar.sha256
    except FileNotFoundError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _maven_context(landing: Path) -> Any:
    from jgo.maven import MavenContext  # noqa: PLC0415 - half a second, needed only when fetching

    trusted = _trusted_authorities()
    if trusted is not None:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", trusted)
    mirror = os.environ.get(MIRROR_VARIABLE)
    return MavenContext(
        repo_cache=landing, timeout=30, remote_repos={"mirror": mirror} if mirror else None
    )


def _trusted_authorities() -> str | None:
    """Return the file of whom this machine trusts: a company's proxy signs for itself."""
    known = [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_BUNDLES]
    return next((path for path in known if path and Path(path).is_file()), None)


def _fetch(jar: Jar, directory: Path, context: Any) -> None:
    """Fetch one jar, compare it with the list, and only then move it into the cache."""
    try:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        path = Path(component.artifact().resolve())
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # our own disk; the network's errors carry no number
        raise StackError(
            f"the download of {jar.coordinates} was refused: {_first_line(error)}",
            "Check that this machine reaches Maven Central (HTTPS_PROXY and REQUESTS_CA_BUNDLE are "
            f"honoured), name a mirror of it in {MIRROR_VARIABLE}, or copy {directory} from a "
            "machine that has it.",
        ) from error
    found = _digest(path)
    if found != jar.sha256:
        raise StackError(
            f"{jar.coordinates} arrived with checksum {found[:16]}… where {LOCK.name} says "
            f"{jar.sha256[:16]}…",
            "A proxy or mirror between here and Maven Central changes files: go round it and "
            "run this again. Nothing was kept.",
        )
    path.replace(directory / jar.file_name)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


if __name__ == "__main__":
    write_lock()
