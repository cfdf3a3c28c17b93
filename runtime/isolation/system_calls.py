"""System calls of Linux by name, through libc, and their numbers on x86-64 and ARM64."""

import ctypes
import os
import platform

# name, number on x86-64, number on ARM64 ("-" where there is none): asm/unistd_64.h and asm-generic/unistd.h
_CALLS = """
acct 163 89
add_key 248 217
adjtimex 159 171
bpf 321 280
capset 126 91
chmod 90 -
chown 92 -
chroot 161 51
clock_adjtime 305 266
clock_settime 227 112
clone 56 220
clone3 435 435
delete_module 176 106
execve 59 221
execveat 322 281
fanotify_init 300 262
fchmod 91 52
fchmodat 268 53
fchmodat2 452 452
fchown 93 55
fchownat 260 54
file_setattr 469 469
finit_module 313 273
fork 57 -
fremovexattr 199 16
fsconfig 431 431
fsetxattr 190 7
fsmount 432 432
fsopen 430 430
fspick 433 433
futimesat 261 -
init_module 175 105
inotify_init 253 -
inotify_init1 294 26
io_uring_enter 426 426
io_uring_register 427 427
io_uring_setup 425 425
ioperm 173 -
iopl 172 -
ioprio_set 251 30
kcmp 312 272
kexec_file_load 320 294
kexec_load 246 104
keyctl 250 219
kill 62 129
landlock_add_rule 445 445
landlock_create_ruleset 444 444
landlock_restrict_self 446 446
lchown 94 -
lremovexattr 198 15
lsetxattr 189 6
memfd_create 319 279
memfd_secret 447 447
migrate_pages 256 238
modify_ldt 154 -
mount 165 40
mount_setattr 442 442
move_mount 429 429
move_pages 279 239
mq_open 240 180
msgget 68 186
name_to_handle_at 303 264
open_by_handle_at 304 265
open_tree 428 428
perf_event_open 298 241
personality 135 92
pidfd_getfd 438 438
pidfd_open 434 434
pidfd_send_signal 424 424
pivot_root 155 41
prctl 157 167
prlimit64 302 261
process_madvise 440 440
process_vm_readv 310 270
process_vm_writev 311 271
ptrace 101 117
quotactl 179 60
quotactl_fd 443 443
reboot 169 142
removexattr 197 14
removexattrat 466 466
request_key 249 218
rt_sigqueueinfo 129 138
rt_tgsigqueueinfo 297 240
sched_setaffinity 203 122
sched_setattr 314 274
sched_setparam 142 118
sched_setscheduler 144 119
semget 64 190
setdomainname 171 162
sethostname 170 161
setns 308 268
setpgid 109 154
setpriority 141 140
setsid 112 157
settimeofday 164 170
setxattr 188 5
setxattrat 463 463
shmat 30 196
shmget 29 194
socket 41 198
swapoff 168 225
swapon 167 224
syslog 103 116
tgkill 234 131
tkill 200 130
truncate 76 45
umount2 166 39
unshare 272 97
userfaultfd 323 282
utime 132 -
utimensat 280 88
utimes 235 -
vfork 58 -
"""
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # as the kernel's audit numbers them


def architecture() -> str:
    """Return this machine's architecture: a key of ARCHITECTURES, or "" for another one, or a 32-bit Python."""
    name = platform.machine()
    return name if name in ARCHITECTURES and ctypes.sizeof(ctypes.c_void_p) == 8 else ""


def numbers() -> dict[str, int]:
    """Return the numbers of the calls on this machine, by name."""
    column = 1 + list(ARCHITECTURES).index(architecture())
    rows = [line.split() for line in _CALLS.strip().splitlines()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def call(name: str, *arguments: object) -> int:
    """Make a system call. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc.syscall(ctypes.c_long(numbers()[name]), *given))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: object) -> None:
    """Make the call prctl. Raises OSError."""
    call("prctl", option, *arguments, *[0] * (4 - len(arguments)))
