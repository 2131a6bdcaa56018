"""Become a part of the stack: `launch.py PARENT SIGNAL USER COMMAND...`.

Asks the kernel to send SIGNAL when the supervisor, PARENT, dies. Becomes `nobody` where USER says
so, for a server that refuses to run as root, or as a user without a name. Then the command takes
this process's place, pid included.
Only the standard library, no imports of ours: this runs before every part.
"""

import ctypes
import os
import pwd
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534
_FILES = 65_536


def _is_plain_user() -> bool:
    """Tell whether this is neither root nor a user without a name, as containers may have."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return os.geteuid() != 0


def enter_namespace() -> bool:
    """Enter a user namespace in which our files belong to nobody, and so do we.

    Nothing has to be chowned and no folder above opened for others. Returns False where the
    kernel allows no such namespace.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {group} 1")
    return True


def become_nobody(home: str) -> None:
    """Leave root the plain way: the files in `home` become nobody's, and so does this process."""
    _give(home, _NOBODY)
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    if not os.access(home, os.R_OK | os.X_OK):
        sys.exit(
            f"user nobody cannot reach {home}: give --data-dir a folder below one that everybody "
            "may enter, such as /var/tmp, or run this as an ordinary user"
        )


def _give(home: str, owner: int) -> None:
    for folder, _, names in os.walk(home):
        os.chown(folder, owner, owner)
        for name in names:
            os.lchown(Path(folder, name), owner, owner)


def _restore_defaults() -> None:
    """Give the command what a shell would: default signals, and many open files."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: list[str]) -> None:
    """Set the process up, then run the command in its place."""
    parent, number, user, *command = arguments
    if user == "nobody" and not _is_plain_user():
        home = os.environ["TOLLBOOK_PART_HOME"]
        if os.geteuid() == 0:
            # Nobody's, if the last start was on a machine without namespaces.
            _give(home, 0)
        if not enter_namespace() and os.geteuid() == 0:
            become_nobody(home)
    _restore_defaults()
    # After the change of user, which would clear it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
