"""What a worker gives up, because computing a model never needs it. docs/security-workers.md says what that defends.

`confine` at the start of every worker; `as_declared` around the load of a model, as its entry says. Linux does most of
it: no_new_privs, capabilities, Landlock's scopes, and a filter of system calls made by libseccomp, which every Debian
has (apt depends on it).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.catalog import ModelSpec
from app.hub import TOKEN_VARIABLES

logger = logging.getLogger(__name__)

MAX_OPEN_FILES = 4096
"""Shards of weights, a few sockets; a leak of a model's code ends there."""
_OTHERS_WRITE = 0o022
_OOM_POINTS = 200
"""Of 1,000, which are all memory: so much worse than the API process is a worker of its size, when memory runs out."""

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of linux/capability.h
_OVER_FILES = 0b11111  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID

# linux/landlock.h; the numbers of these system calls are the same on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_SCOPES = 0b11  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL

# seccomp.h of libseccomp 2.5
_LIBSECCOMP = "libseccomp.so.2"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_ALL_THREADS, _NO_SPECULATION_PENALTY = 4, 7  # SCMP_FLTATR_CTL_TSYNC, SCMP_FLTATR_CTL_SSB
_EQUAL, _GREATER = 4, 6  # SCMP_CMP_EQ, SCMP_CMP_GT


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
        ("unused", ctypes.c_uint64),
    ]


def confine() -> None:
    """Call it before this process has a second thread: the kernel keeps most of this by thread, for later ones too.

    What a system does not have, it does without, and says so in one line.
    """
    os.umask(os.umask(0o077) | _OTHERS_WRITE)
    missing = [why for step in (_limit_resources, *_STEPS_OF.get(sys.platform, ())) if (why := _without(step))]
    if missing:
        logger.info("this system confines workers less than others do: %s", "; ".join(missing))


def _without(step: Callable[[], None]) -> str | None:
    """Why the step could not be taken; None where it was."""
    try:
        step()
    except (OSError, ValueError) as error:  # ValueError: a limit that the system does not take
        return str(error)
    return None


@contextmanager
def as_declared(spec: ModelSpec) -> Iterator[None]:
    """Around the load of a model. An offline one is barred from the network before its files are read, and any code
    among them runs; vLLM needs sockets of its own while it starts. The Hub's token is there while the model loads."""
    if not spec.trust_remote_code:
        # For torch.load whatever its caller says: tensors and plain values, nothing that runs.
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    is_barred_late = spec.backend == "vllm"
    if spec.offline and not is_barred_late:
        _bar_network_of(spec)
    yield
    if spec.offline and is_barred_late:
        _bar_network_of(spec)
    if not spec.takes_adapters:  # which may come from the Hub at any time
        for name in TOKEN_VARIABLES:
            os.environ.pop(name, None)


def _bar_network_of(spec: ModelSpec) -> None:
    try:
        bar_network()
    except (OSError, AttributeError) as error:  # AttributeError: a libseccomp that lacks a function
        logger.warning(
            "%s is offline, so the Hub is not asked, but this system cannot bar its process from the network: %s",
            spec.id,
            error,
        )


def bar_network() -> None:
    """From now on no thread of this process, and no process that it starts, opens a socket but local ones (AF_UNIX and
    the kernel's AF_NETLINK): EACCES. What is open stays open. It cannot be undone.

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
        refused = [(_EQUAL, family) for family in range(socket.AF_NETLINK) if family != socket.AF_UNIX]
        for operator, family in (*refused, (_GREATER, socket.AF_NETLINK)):
            _refuse(seccomp, context, b"socket", errno.EACCES, _Comparison(0, operator, family, 0))
        _refuse(seccomp, context, b"io_uring_setup", errno.ENOSYS)
        _check(seccomp.seccomp_load(context))
    finally:
        seccomp.seccomp_release(context)


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


def _stay_apart() -> None:
    """Processes that this one did not start are out of its reach: their memory and environment, signals to them, their
    abstract sockets. Needs Linux 6.12 with Landlock, and raises OSError without."""
    libc = _libc()
    wanted = _Ruleset(0, 0, _SCOPES)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(wanted), ctypes.sizeof(wanted), 0)
    _called(ruleset, "no Landlock with scopes (Linux 6.12)")
    try:
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


_STEPS_OF = {"linux": (_go_first, _keep_capabilities, _gain_nothing, _stay_apart)}
