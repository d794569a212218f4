"""A seccomp filter: the system calls that no program under test needs, and an attack may.

Processes cannot be made (threads can), so a fork bomb ends at its first call, as root too. Sockets,
tracing, mounting, namespaces, keys, and memory that no limit counts are refused. The process sees
the error "Operation not permitted".
"""

from __future__ import annotations

import errno
import platform
import struct

_X86_64 = {
    "fork": 57, "vfork": 58, "ptrace": 101, "socket": 41, "unshare": 272, "setns": 308,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "add_key": 248,
    "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
    "process_vm_readv": 310, "process_vm_writev": 311, "open_by_handle_at": 304,
    "personality": 135, "memfd_create": 319, "shmget": 29, "msgget": 68, "semget": 64,
    "mq_open": 240,
}  # fmt: skip
_AARCH64 = {
    "ptrace": 117, "socket": 198, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39,
    "pivot_root": 41, "chroot": 51, "add_key": 217, "request_key": 218, "keyctl": 219,
    "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "process_vm_readv": 270,
    "process_vm_writev": 271, "open_by_handle_at": 265, "personality": 92, "memfd_create": 279,
    "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
}  # fmt: skip
_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_CLONE3 = 435
# by platform.machine(): AUDIT_ARCH, the number of clone, the refused calls of this architecture
_ARCHITECTURES = {
    "x86_64": (0xC000003E, 56, _X86_64),
    "aarch64": (0xC00000B7, 220, _AARCH64),
}
_X32 = 0x40000000  # x86-64 numbers from here on are a second table of the same calls
_CLONE_THREAD = 0x10000

# of struct seccomp_data: offsets
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
# classic BPF
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def filter_bytes(machine: str | None = None) -> bytes | None:
    """The compiled filter for an architecture, by default this one; None where none is written."""
    known = _ARCHITECTURES.get(machine or platform.machine())
    if known is None:
        return None
    architecture, clone, refused = known
    numbers = sorted((refused | _EVERYWHERE).values())
    return b"".join(
        (
            _step(_LOAD, _ARCHITECTURE),
            _step(_EQUAL, architecture, if_true=1),
            _step(_RETURN, _KILL),
            _step(_LOAD, _NUMBER),
            *_refuse(_AT_LEAST, _X32, errno.ENOSYS),
            *_refuse(_EQUAL, _CLONE3, errno.ENOSYS),  # the C library then uses clone
            *(step for number in numbers for step in _refuse(_EQUAL, number, errno.EPERM)),
            _step(_EQUAL, clone, if_false=2),
            _step(_LOAD, _FIRST_ARGUMENT),
            _step(_ANY_BIT, _CLONE_THREAD, if_false=1),
            _step(_RETURN, _ALLOW),
            _step(_RETURN, _ERROR | errno.EPERM),
        )
    )


def _refuse(test: int, value: int, error: int) -> tuple[bytes, bytes]:
    """Returns an error where the test of the loaded value holds."""
    return _step(test, value, if_false=1), _step(_RETURN, _ERROR | error)


def _step(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the jumps are counted from the next one."""
    return struct.pack("<HBBI", code, if_true, if_false, value)
