"""What a process gives up, because its work never needs it. docs/security-workers.md says what that defends.

`confine` at the start of every worker and of the pages, which have bounds; `bar_network` for models that are offline.
Linux does most of it: no_new_privs, capabilities, Landlock, and a filter of system calls made by libseccomp,
which every Debian has (apt depends on it).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_OPEN_FILES = 4096
"""Shards of weights, a few sockets, streams of pages; a leak ends there."""
_OTHERS_WRITE = 0o022
_WITH_TCP = (socket.AF_INET, socket.AF_INET6)
_OOM_POINTS = 200
"""Of 1,000, which are all memory: so much worse than the API process is another of its size, when memory runs out."""

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of linux/capability.h
_OVER_FILES = 0b11111  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID

# linux/landlock.h; the numbers of these system calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_SCOPES = 0b11  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL
_BIND_TCP, _CONNECT_TCP = 0b01, 0b10
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_OF_FOLDERS = ((1 << 14) - 1) & ~0b111  # what is done to what is in them, from READ_DIR to REFER
_OF_DEVICES = 1 << 6 | 1 << 11  # MAKE_CHAR, MAKE_BLOCK
_OWN = _READ_FILE | _WRITE_FILE | _TRUNCATE | _OF_FOLDERS & ~_OF_DEVICES
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All that there are, by the first version of Landlock that has them; the lowest is LANDLOCK_ACCESS_FS_EXECUTE."""
_VERSION_WITH_TCP, _VERSION_WITH_SCOPES = 4, 6

# seccomp.h of libseccomp 2.5
_LIBSECCOMP = "libseccomp.so.2"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_ALL_THREADS, _NO_SPECULATION_PENALTY = 4, 7  # SCMP_FLTATR_CTL_TSYNC, SCMP_FLTATR_CTL_SSB
_EQUAL, _GREATER, _MASKED_EQUAL = 4, 6, 7  # SCMP_CMP_EQ, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ
_TYPE_OF_SOCKET = 0xF  # SOCK_TYPE_MASK of linux/net.h: the rest are flags


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("handled_access_fs", "handled_access_net", "scoped")]


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("masked", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class _NetPort(ctypes.Structure):
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What is at or below `reading` is read, all that there is done below `writing`, no other file opened, no program
    started. No TCP port is listened to, and `port` alone connected to (of whatever machine); of other sockets there are
    local ones."""

    reading: Sequence[Path]
    writing: Path
    port: int


def confine(who: str, bounds: Bounds | None = None) -> None:
    """who: for the log. Call it before this process has a second thread: the kernel keeps most of this by thread, for
    later ones too.

    What a system does not have, it does without, and says so in one line.
    """
    os.umask(os.umask(0o077) | _OTHERS_WRITE)
    missing = [why for step in _steps(bounds) if (why := _without(step))]
    if missing:
        logger.info("this system confines %s less than others do: %s", who, "; ".join(missing))


def _steps(bounds: Bounds | None) -> Iterator[Callable[[], None]]:
    yield _limit_resources
    if bounds is not None:  # while libseccomp can be read
        yield partial(bar_network, but_tcp=True)
    if sys.platform == "linux":
        yield from (_go_first, _keep_capabilities, _gain_nothing, partial(_stay_apart, bounds))


def _without(step: Callable[[], None]) -> str | None:
    """Why the step could not be taken; None where it was."""
    try:
        step()
    except (OSError, ValueError) as error:  # ValueError: a limit that the system does not take
        return str(error)
    return None


def bar_network(*, but_tcp: bool = False) -> None:
    """From now on no thread of this process, and no process that it starts, opens a socket but local ones (AF_UNIX and
    the kernel's AF_NETLINK) and, where asked for, TCP's: EACCES. What is open stays open. It cannot be undone.

    io_uring, which opens sockets past any filter, is as if the kernel had none. System calls of another architecture
    than the process's end it. Raises OSError where libseccomp or the kernel's part is missing.
    """
    seccomp = _libseccomp()
    context = seccomp.seccomp_init(_ALLOW)
    if not context:
        raise OSError(errno.ENOSYS, "seccomp_init failed")
    try:
        _check(seccomp.seccomp_attr_set(context, _ALL_THREADS, 1))
        seccomp.seccomp_attr_set(context, _NO_SPECULATION_PENALTY, 1)  # kernels before 5.16 slow filtered processes
        kept = {socket.AF_UNIX, *(_WITH_TCP if but_tcp else ())}
        refused = [(_EQUAL, family) for family in range(socket.AF_NETLINK) if family not in kept]
        for operator, family in (*refused, (_GREATER, socket.AF_NETLINK)):
            _refuse(seccomp, context, b"socket", errno.EACCES, _Comparison(0, operator, family, 0))
        for family in _WITH_TCP if but_tcp else ():
            _refuse_all_but_tcp(seccomp, context, family)
        _refuse(seccomp, context, b"io_uring_setup", errno.ENOSYS)
        _check(seccomp.seccomp_load(context))
    finally:
        seccomp.seccomp_release(context)


def _refuse_all_but_tcp(seccomp: ctypes.CDLL, context: int, family: int) -> None:
    """MPTCP has TCP's type and another protocol, and Landlock does not know its ports."""
    of_family = _Comparison(0, _EQUAL, family, 0)
    for kind in set(range(_TYPE_OF_SOCKET + 1)) - {socket.SOCK_STREAM}:
        of_kind = _Comparison(1, _MASKED_EQUAL, _TYPE_OF_SOCKET, kind)
        _refuse(seccomp, context, b"socket", errno.EACCES, of_family, of_kind)
    other_protocol = _Comparison(2, _GREATER, socket.IPPROTO_TCP, 0)
    _refuse(seccomp, context, b"socket", errno.EACCES, of_family, other_protocol)


def _refuse(seccomp: ctypes.CDLL, context: int, name: bytes, number: int, *compared: _Comparison) -> None:
    """Have the system call fail with this errno where all the comparisons hold."""
    call = seccomp.seccomp_syscall_resolve_name(name)
    arguments = (_Comparison * len(compared))(*compared)
    _check(seccomp.seccomp_rule_add_array(context, _ERRNO | number, call, len(compared), arguments))


def _check(result: int) -> None:
    """libseccomp's functions return minus an errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _libseccomp() -> ctypes.CDLL:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "only Linux has seccomp")
    library = ctypes.CDLL(_LIBSECCOMP)
    context = ctypes.c_void_p
    types = {
        "seccomp_init": [ctypes.c_uint32],
        "seccomp_release": [context],
        "seccomp_attr_set": [context, ctypes.c_int, ctypes.c_uint32],
        "seccomp_syscall_resolve_name": [ctypes.c_char_p],
        "seccomp_rule_add_array": [context, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p],
        "seccomp_load": [context],
    }
    for name, arguments in types.items():
        getattr(library, name).argtypes = arguments
    library.seccomp_init.restype = context
    library.seccomp_release.restype = None
    return library


def _limit_resources() -> None:
    _limit(resource.RLIMIT_CORE, 0)  # memory holds inputs of clients and, while it loads, the Hub's token
    _limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (value, value))


def _go_first() -> None:
    """When the kernel must end a process for its memory: a worker costs no request."""
    file = Path("/proc/self/oom_score_adj")  # read-only in some containers
    file.write_text(str(min(1000, int(file.read_text()) + _OOM_POINTS)))


def _keep_capabilities() -> None:
    """Of a server that runs as root: its workers may pass over the owners of files, as it does, and nothing else."""
    libc = _libc()
    header, sets = _Header(_CAPABILITY_VERSION, 0), (_Capabilities * 2)()
    _called(libc.capget(ctypes.byref(header), sets), "capget")
    for index, one in enumerate(sets):
        mask = _OVER_FILES >> 32 * index & 0xFFFFFFFF
        one.effective &= mask
        one.permitted &= mask
        one.inheritable = 0
    _called(libc.capset(ctypes.byref(header), sets), "capset")


def _gain_nothing() -> None:
    """By setuid programs or capabilities of files."""
    _called(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def _stay_apart(bounds: Bounds | None) -> None:
    """Processes that this one did not start are out of its reach: their memory and environment, signals to them, their
    abstract sockets; and so is all that is beyond its bounds. Needs Linux 6.12 with Landlock, and raises OSError
    without; of bounds files need 5.13 and ports 6.7.

    In one ruleset: files are not renamed from folder to folder where one of several is about files."""
    libc = _libc()
    if bounds is None:
        _restrict(_Ruleset(0, 0, _SCOPES), lambda ruleset: None)
        return
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    _called(version, "no Landlock")
    rights = max(rights for first, rights in _FILE_RIGHTS.items() if version >= first)
    tcp = _BIND_TCP | _CONNECT_TCP if version >= _VERSION_WITH_TCP else 0

    def allow(ruleset: int) -> None:
        for path in bounds.reading:
            _allow_beneath(ruleset, path, _READ_FILE | _READ_DIR)
        _allow_beneath(ruleset, Path(os.devnull), _READ_FILE | _WRITE_FILE)
        _allow_beneath(ruleset, bounds.writing, _OWN & rights)
        if tcp:
            _allow(ruleset, _NET_PORT, _NetPort(_CONNECT_TCP, bounds.port))

    _restrict(_Ruleset(rights, tcp, _SCOPES if version >= _VERSION_WITH_SCOPES else 0), allow)


def _allow_beneath(ruleset: int, path: Path, rights: int) -> None:
    """Nothing where there is no such file or folder."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _allow(ruleset, _PATH_BENEATH, _PathBeneath(rights if path.is_dir() else rights & ~_OF_FOLDERS, fd))
    finally:
        os.close(fd)


def _allow(ruleset: int, kind: int, rule: ctypes.Structure) -> None:
    _called(_libc().syscall(_LANDLOCK_ADD_RULE, ruleset, kind, ctypes.byref(rule), 0), "landlock_add_rule")


def _restrict(wanted: _Ruleset, allow: Callable[[int], None]) -> None:
    """allow: adds the exceptions to the ruleset, which it is given as a file descriptor."""
    libc = _libc()
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0)
    _called(ruleset, "no Landlock with scopes (Linux 6.12)")
    try:
        allow(ruleset)
        _called(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _called(result: int, name: str) -> None:
    """Raises OSError for a system call that failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
