"""Start a program in Linux namespaces of its own, where bubblewrap is not installed.

A script of its own, run as ``python -I -S namespaces.py PLAN PROGRAM ARGUMENT...``: it imports
nothing of ours and ends as the program does. PLAN is JSON:

    {"network": false, "cwd": "/x", "status": 9, "mounts": [["/tmp", null, true], ...]}

A mount is a path, what is found there (null for an empty folder), and whether it may be written.
They are made in the order given, over a file system of which nothing else may be written. The
program gets its own processes, no privilege, and no way to gain one.

To ``status``, a file descriptor that the program does not get, goes ``{"exit-code": N}`` when it
has ended; nothing if it never started. Bubblewrap does the same (``--json-status-fd``).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

_NEWNS, _NEWIPC, _NEWUSER = 0x20000, 0x8000000, 0x10000000
_NEWPID, _NEWNET = 0x20000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_RDONLY, _RECURSIVE, _MOUNT_SETATTR = 1, 0x8000, 442  # the number is the same everywhere
_PDEATHSIG, _NO_NEW_PRIVS = 1, 38
_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_SHARED = "/dev/shm"  # noqa: S108 - an empty one is made
_LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _unshare(flags: int) -> None:
    """New namespaces; the user stays who it is."""
    uid, gid = os.getuid(), os.getgid()
    _checked(_libc.unshare(flags), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - imports cost time here
            file.write(text)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if one is None else os.fsencode(one) for one in (source, target, kind, data)]
    _checked(_libc.mount(*words[:3], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def _protect(path: str, *, writable: bool) -> None:
    """Make all that is mounted at and below a path read-only, or no longer so."""
    change = _Attributes(0, _RDONLY, 0, 0) if writable else _Attributes(_RDONLY, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(change))
    done = _libc.syscall(
        _MOUNT_SETATTR, -100, os.fsencode(path), _RECURSIVE, ctypes.byref(change), size
    )
    _checked(done, f"mount_setattr {path}")


def _furnish(mounts: list[tuple[str, str | None, bool]]) -> None:
    """Lay the mounts over what is there."""
    _mount(None, "/", None, _REC | _PRIVATE)
    # Opened first: one mount may hide where the next one comes from.
    opened = {source: os.open(source, os.O_PATH) for _, source, _ in mounts if source is not None}
    nodes = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _NODES}
    _protect("/", writable=False)
    for path, source, writable in mounts:
        if source is None:
            os.makedirs(path, exist_ok=True)  # noqa: PTH103
            _mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, "mode=0755")
            continue
        _place(path, folder=os.path.isdir(f"/proc/self/fd/{opened[source]}"))  # noqa: PTH112
        _mount(f"/proc/self/fd/{opened[source]}", path, None, _BIND | _REC)
        _protect(path, writable=writable)
    _devices(nodes)


def _place(path: str, *, folder: bool) -> None:
    """Something to mount on, of the kind that is mounted."""
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if not folder and not os.path.lexists(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _devices(nodes: dict[str, int]) -> None:
    """Devices that are no way to a disk."""
    _mount("tmpfs", "/dev", "tmpfs", _NOSUID, "mode=0755")
    for name, opened in nodes.items():
        _place(f"/dev/{name}", folder=False)
        _mount(f"/proc/self/fd/{opened}", f"/dev/{name}", None, _BIND)
        _protect(f"/dev/{name}", writable=True)
    for name, what in _LINKS.items():
        os.symlink(f"/proc/self/fd{what}", f"/dev/{name}")  # noqa: PTH211
    os.mkdir(_SHARED)  # noqa: PTH102
    os.mkdir("/dev/pts")  # noqa: PTH102
    _mount("tmpfs", _SHARED, "tmpfs", _NOSUID | _NODEV, "mode=1777")
    _mount("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", "/dev/ptmx")  # noqa: PTH211


def _become(program: list[str], cwd: str, failed: int) -> None:
    """Process 1: see no process but its own, give everything up, and run the program."""
    try:
        _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
        # Privileged in these namespaces no more, so that no mount can be taken away again.
        _unshare(_NEWUSER)
        _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _checked(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        os.chdir(cwd)  # what it was started in may be hidden now
        os.execv(program[0], program)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        os.write(failed, str(error).encode())
    finally:
        os._exit(126)


def main() -> int:
    """Run the program; how it ended, or 126."""
    plan, program = json.loads(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(plan["status"], False)  # noqa: FBT003 - the function's own signature
    try:
        network = 0 if plan["network"] else _NEWNET
        _unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWIPC | network)
        _furnish(plan["mounts"])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 126
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _become(program, plan["cwd"], write)
    os.close(write)
    _, ended = os.waitpid(child, 0)
    if problem := os.read(read, 1000):
        sys.stderr.write(f"{problem.decode(errors='replace')}\n")
        return 126
    code = os.waitstatus_to_exitcode(ended)
    code = 128 - code if code < 0 else code
    os.write(plan["status"], json.dumps({"exit-code": code}).encode())
    return code


if __name__ == "__main__":
    sys.exit(main())
