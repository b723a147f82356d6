"""System call numbers of what the filter names. From the kernel's uapi headers: asm/unistd_64.h and
asm-generic/unistd.h."""

from __future__ import annotations

# fmt: off
X86_64: dict[str, int] = {
    "socket": 41, "connect": 42, "bind": 49, "listen": 50, "accept": 43, "accept4": 288,
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438,
    "kcmp": 312,
    "perf_event_open": 298,
    "kill": 62, "tkill": 200, "tgkill": 234, "pidfd_send_signal": 424, "rt_sigqueueinfo": 129,
    "rt_tgsigqueueinfo": 297,
    "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
    "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442,
    "bpf": 321, "keyctl": 250, "add_key": 248, "request_key": 249, "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427, "userfaultfd": 323, "kexec_load": 246, "kexec_file_load": 320,
    "init_module": 175,
    "finit_module": 313, "delete_module": 176, "open_by_handle_at": 304, "name_to_handle_at": 303,
    "memfd_secret": 447,
    "fanotify_init": 300, "quotactl": 179, "swapon": 167, "swapoff": 168, "reboot": 169,
    "settimeofday": 164,
    "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "sethostname": 170,
    "setdomainname": 171, "acct": 163,
    "syslog": 103, "iopl": 172, "ioperm": 173, "vhangup": 153,
    "mknod": 133, "mknodat": 259, "symlink": 88, "symlinkat": 266, "link": 86, "linkat": 265,
    "chmod": 90, "fchmod": 91,
    "fchmodat": 268, "fchmodat2": 452, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260,
    "setxattr": 188,
    "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
    "fremovexattr": 199,
    "fork": 57, "vfork": 58, "clone": 56, "clone3": 435, "execve": 59, "execveat": 322,
    "prlimit64": 302, "ioctl": 16, "memfd_create": 319,
}

AARCH64: dict[str, int] = {
    "socket": 198, "connect": 203, "bind": 200, "listen": 201, "accept": 202, "accept4": 242,
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "pidfd_getfd": 438,
    "kcmp": 272,
    "perf_event_open": 241,
    "kill": 129, "tkill": 130, "tgkill": 131, "pidfd_send_signal": 424, "rt_sigqueueinfo": 138,
    "rt_tgsigqueueinfo": 240,
    "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
    "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442,
    "bpf": 280, "keyctl": 219, "add_key": 217, "request_key": 218, "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427, "userfaultfd": 282, "kexec_load": 104, "kexec_file_load": 294,
    "init_module": 105,
    "finit_module": 273, "delete_module": 106, "open_by_handle_at": 265, "name_to_handle_at": 264,
    "memfd_secret": 447,
    "fanotify_init": 262, "quotactl": 60, "swapon": 224, "swapoff": 225, "reboot": 142,
    "settimeofday": 170,
    "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "sethostname": 161,
    "setdomainname": 162, "acct": 89,
    "syslog": 116, "vhangup": 58,
    "mknodat": 33, "symlinkat": 36, "linkat": 37, "fchmod": 52, "fchmodat": 53, "fchmodat2": 452,
    "fchown": 55,
    "fchownat": 54, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14,
    "lremovexattr": 15, "fremovexattr": 16,
    "clone": 220, "clone3": 435, "execve": 221, "execveat": 281,
    "prlimit64": 261, "ioctl": 29, "memfd_create": 279,
}
"""A 64-bit ARM kernel never had fork, vfork, link, symlink, mknod, chmod, chown and lchown: only
their newer forms."""
# fmt: on
