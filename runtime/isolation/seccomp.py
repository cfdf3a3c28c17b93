"""A filter of system calls (seccomp): no sockets, no further processes, nothing that acts on the system or on others.

Threads remain, as numerical libraries need them. The filter cannot be removed again.
"""

import ctypes
import errno
import os
import struct
import sys

from .system_calls import ARCHITECTURES, architecture, numbers, prctl

_DENIED = """
    socket
    fork vfork execve execveat setsid setpgid
    ptrace kill tkill rt_sigqueueinfo rt_tgsigqueueinfo process_vm_readv process_vm_writev process_madvise
    pidfd_open pidfd_getfd pidfd_send_signal kcmp migrate_pages move_pages
    sched_setaffinity sched_setscheduler sched_setparam sched_setattr setpriority ioprio_set
    mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
    name_to_handle_at open_by_handle_at bpf perf_event_open userfaultfd
    io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl quotactl_fd
    syslog settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm personality
    modify_ldt shmget shmat semget msgget mq_open memfd_create memfd_secret
    inotify_init inotify_init1 fanotify_init
""".split()
# Landlock does not check what changes a file's metadata, nor, in its first versions, its length.
_METADATA = """
    truncate chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    utime utimes utimensat futimesat file_setattr
""".split()

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF's instructions
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16  # offsets in struct seccomp_data; the low half of the first argument
_X32 = 0x40000000  # the third kind of system calls on x86-64
_CLONE_THREAD = 0x00010000
_SET_SECCOMP, _FILTER, _NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL = 22, 2, 38, 1


def program(*, metadata: bool) -> bytes:
    """Return the filter as BPF; without `metadata`, a file's permissions, owner and times cannot be changed."""
    known = numbers()
    denied = _RETURN, 0, 0, _ERROR | errno.EPERM
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, ARCHITECTURES[architecture()]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        denied,
    ]
    for name in (*_DENIED, *(() if metadata else _METADATA)):
        if name in known:
            code += [(_EQUAL, 0, 1, known[name]), denied]
    # glibc then falls back to clone, whose flags a filter can read.
    code += [(_EQUAL, 0, 1, known["clone3"]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    for name, test, value, allowed in (
        ("clone", _ANY_BIT, _CLONE_THREAD, True),
        ("tgkill", _EQUAL, os.getpid(), True),  # a signal to itself, as abort() sends
        ("prlimit64", _EQUAL, 0, True),
        ("prctl", _EQUAL, _PARENT_DEATH_SIGNAL, False),
    ):
        code += [
            (_EQUAL, 0, 4, known[name]),
            (_LOAD, 0, 0, _FIRST),
            (test, int(not allowed), int(allowed), value),
            (_RETURN, 0, 0, _ALLOW),
            denied,
        ]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in code)


class _Program(ctypes.Structure):
    """The kernel's struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def restrict(*, metadata: bool) -> None:
    """Filter the system calls of this process from now on. Raises OSError."""
    assert sys.byteorder == "little"
    code = program(metadata=metadata)
    buffer = ctypes.create_string_buffer(code, len(code))
    filled = _Program(len(code) // 8, ctypes.addressof(buffer))
    prctl(_NO_NEW_PRIVILEGES, 1)
    prctl(_SET_SECCOMP, _FILTER, ctypes.byref(filled))
