"""Sets the project up in `.venv`: run by any Python 3, needs nothing but its standard library.

Finds a Python that fits, says what to do where there is none, and installs exactly what the lock
files name, by hash. What was fetched once is kept, so that a second clone needs no network. The
syntax is that of Python 3.6, so that an old Python can still say what is wrong.
"""

import os
import platform
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / ".installed"
TOOLS_LOCK = ROOT / "requirements-tools.lock"
LOCK = ROOT / "requirements.lock"

SUPPORTED = ((3, 12), (3, 11))
GLIBC_MIN = (2, 31)
_SHOWS_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
_HAS_VENV = "import venv, ensurepip"


class SetupError(Exception):
    """What is wrong, and what to do about it."""


def main() -> int:
    """Set up, or say in a few lines why that cannot be; return the exit status."""
    try:
        check_platform(platform.system(), platform.machine(), libc())
        make_venv(find_python())
        install()
    except SetupError as error:
        sys.stderr.write("make setup: {}\n".format(error))  # noqa: UP032 - Python 3.6 in mind
        return 1
    STAMP.write_text(str(ROOT))
    return 0


def libc() -> "tuple[str, str]":
    """Return name and version of the C library; empty where it does not tell."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return "", ""
    return name, version


def check_platform(system: str, machine: str, library: "tuple[str, str]") -> None:
    """Refuse a machine for which there are no server binaries.

    Raises:
        SetupError: it is not x86-64 Linux with glibc 2.31 or later.
    """
    needs = "Tollbook's embedded servers need x86-64 Linux with glibc 2.31 or later"
    remedy = "use such a machine, for example Debian 11, Ubuntu 20.04, or a virtual one"
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise SetupError(f"{needs}; this is {system} {machine}: {remedy}.")
    name, version = library
    if name != "glibc" or _numbers(version) < GLIBC_MIN:
        found = f"{name} {version}" if name else "another C library"
        raise SetupError(f"{needs}; this has {found}: {remedy}.")


def find_python() -> str:
    """Return a Python of a supported version that can make virtual environments.

    Raises:
        SetupError: there is none.
    """
    crippled = ""
    for candidate in _candidates():
        version = _output([candidate, "-I", "-c", _SHOWS_VERSION])
        if version not in ["{}.{}".format(*wanted) for wanted in SUPPORTED]:
            continue
        if _output([candidate, "-I", "-c", _HAS_VENV]) is not None:
            return candidate
        crippled = f"{candidate} (Python {version}) has no venv module"
        crippled += f": `apt install python{version}-venv`, or"
    problem = crippled or (
        "Python 3.11 or 3.12 is needed and was not found (this is Python {}.{}):".format(
            *sys.version_info[:2]
        )
    )
    raise SetupError(
        f"{problem} install one (`apt install python3.11-venv`, `dnf install python3.12`, "
        "`pyenv install 3.12`), or name it: `make setup PYTHON=/path/to/python3.12`."
    )


def make_venv(python: str) -> None:
    """Make `.venv` anew, so that it holds what the lock files name and nothing else."""
    if VENV.exists():
        shutil.rmtree(str(VENV))
    _say(f"making .venv with {python}")
    _run([python, "-m", "venv", str(VENV)], "making .venv failed")


def install() -> None:
    """Install what the lock files name, by hash, then the project itself; compile its loops."""
    python = str(VENV / "bin" / "python")
    _install_tools(python)
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--python", python]
    locked = ["--no-build-isolation", "--require-hashes", "-r", str(LOCK)]
    if _output([*uv, "--quiet", "--offline", *locked]) is None:
        _say("fetching what requirements.lock names (about 460 MB, once)")
        _run([*uv, *_trust(), *locked], "installing requirements.lock failed")
    itself = ["--quiet", "--offline", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    _run([*uv, *itself], "installing the project itself failed")
    _run([python, "-P", "-m", "tollbook.compiled"], "compiling the loops over columns failed")


def _trust() -> "list[str]":
    """Trust whom the machine trusts, where it says so: a company's proxy signs for itself."""
    trusted = ssl.get_default_verify_paths()
    found = [path for path in (trusted.cafile, trusted.capath) if path and Path(path).exists()]
    return ["--system-certs"] if found else []


def _install_tools(python: str) -> None:
    """Install uv and setuptools from wheels that are kept beside the other downloads."""
    wheels = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tollbook", "wheels")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    by_hash = ["--require-hashes", "--only-binary", ":all:", "-r", str(TOOLS_LOCK)]
    from_wheels = [*pip, "install", "--no-index", "--find-links", str(wheels), *by_hash]
    if wheels.is_dir() and _output(from_wheels) is not None:
        return
    _say("fetching uv and setuptools (about 30 MB, once)")
    wheels.mkdir(parents=True, exist_ok=True)
    _run([*pip, "download", "--no-deps", "-d", str(wheels), *by_hash], "fetching uv failed")
    _run(from_wheels, "installing uv failed")


def _candidates() -> "list[str]":
    """Return Pythons to try: the one asked for, those on the path, those of version managers."""
    asked = os.environ.get("TOLLBOOK_PYTHON")
    if asked:
        return [shutil.which(asked) or asked]
    found = [sys.executable]
    for major, minor in SUPPORTED:
        on_path = shutil.which(f"python{major}.{minor}")
        if on_path:
            found.append(on_path)
    for folder, pattern in (
        (Path("/usr/bin"), "python3.1[12]"),
        (Path("/usr/local/bin"), "python3.1[12]"),
        (Path.home() / ".pyenv" / "versions", "3.1[12].*/bin/python3"),
        (Path.home() / ".local" / "share" / "uv" / "python", "cpython-3.1[12]*/bin/python3"),
    ):
        found += sorted((str(path) for path in folder.glob(pattern)), reverse=True)
    return found


def _output(command: "list[str]") -> "str | None":
    """Return what a command prints, or None where it fails or is not there."""
    try:
        done = subprocess.run(  # noqa: UP022 - Python 3.6 in mind
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False
        )
    except OSError:
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def _run(command: "list[str]", failure: str) -> None:
    try:
        status = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    except OSError as error:
        raise SetupError(f"{failure}: {error}") from error
    if status != 0:
        raise SetupError(
            f"{failure}; the lines above say why. Without a network, run it once where there is "
            "one (HTTPS_PROXY and PIP_CERT are honoured); with a full disk, free 1.5 GB."
        )


def _numbers(version: str) -> "tuple[int, ...]":
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
