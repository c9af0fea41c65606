"""What the doctor asks of the kernel, its limits, the memory and the processor."""

import errno
import fcntl
import os
import platform
import re
import resource
import struct

from m13.doctor_finding import Check, Verdict, fail, has_capability, is_root, ok, unseen, warn
from m13.host import cpu, hugepages, sysctl

KERNEL_NEEDED = (6, 1)  # a node's ring has provided buffers of 5.19, DEFER_TASKRUN of 6.1
KERNEL_WANTED = (6, 12)  # what M13 is tested on
RING_OPERATIONS = ("POLL_ADD", "READ", "RECV", "SEND", "SENDMSG", "WRITEV")
UMEM_HUGE_PAGES = (8192 * 4096) // hugepages.PAGE_BYTES
MEMLOCK_BYTES = 64 << 20
SHARED_MEMORY_BYTES = 1 << 20

TUNGETFEATURES = 0x800454CF
IFF_VNET_HDR = 0x4000

CAP_IPC_LOCK = 14
CAPABILITIES = {
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": CAP_IPC_LOCK,
    "CAP_SYS_NICE": 23,
    "CAP_BPF": 39,
}

# Processor features, as /proc/cpuinfo spells them: without the first ones AES-GCM is slow and
# leaks through its timing, the others make it faster still.
AES_FEATURES = {
    "x86_64": (("aes", "pclmulqdq"), ("avx", "avx2", "vaes", "vpclmulqdq", "avx512f")),
    "aarch64": (("aes", "pmull"), ("asimd", "sha3", "sve")),
}


def kernel(release: str | None = None) -> Verdict:
    release = release or os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "generic")
    mend = (
        "on Debian 12, with bookworm-backports among the apt sources: apt-get install -t"
        f" bookworm-backports linux-image-{architecture} && reboot"
    )
    if version < KERNEL_NEEDED:
        return fail(f"{release}; M13 needs 6.1", mend)
    if version < KERNEL_WANTED:
        return warn(f"{release} works, but M13 is at home on 6.12 and later", mend)
    return ok(release)


def io_uring() -> Verdict:
    mend = "sysctl -w kernel.io_uring_disabled=0"
    if sysctl.read("kernel/io_uring_disabled") == "2":
        return fail("switched off for everybody (kernel.io_uring_disabled = 2)", mend)
    try:
        import liburing
    except ImportError as error:
        return warn(f"cannot probe: {error}", "pip install liburing")
    deferred = liburing.IORING_SETUP_SINGLE_ISSUER | liburing.IORING_SETUP_DEFER_TASKRUN
    setups = {"": 0, "deferred task work": deferred, "SQPOLL": liburing.IORING_SETUP_SQPOLL}
    had = []
    for name, flags in setups.items():
        ring = liburing.Ring()
        try:
            liburing.io_uring_queue_init(8, ring, flags)
        except OSError as error:
            if not name:
                return fail(f"no ring: {os.strerror(abs(error.errno or errno.EPERM))}", mend)
            continue
        liburing.io_uring_queue_exit(ring)
        had.append(name)
    operations = liburing.probe()
    lacking = [name for name in RING_OPERATIONS if not operations.get(f"IORING_OP_{name}")]
    if lacking:
        return fail(f"no node here: the kernel lacks {' '.join(lacking)}", kernel("0.0").mend)
    return ok("rings, " + ", ".join(filter(None, had)))


def io_uring_group() -> Verdict:
    if sysctl.read("kernel/io_uring_disabled") != "1":
        return ok("everybody may use rings")
    group = int(sysctl.read("kernel/io_uring_group") or -1)
    if is_root() or group in (os.getegid(), *os.getgroups()):
        return ok(f"restricted to group {group}, which does not keep us out")
    mend = f"sysctl -w kernel.io_uring_group={os.getegid()}"
    return warn(f"rings are restricted to group {group}, and we are not in it", mend)


def huge_pages() -> Verdict:
    if not hugepages.POOL.exists():
        return warn("this kernel has no 2 MiB pages", "use a kernel with CONFIG_HUGETLBFS")
    free = hugepages.free_count()
    if free >= UMEM_HUGE_PAGES:
        return ok(f"{free} free of 2 MiB, {UMEM_HUGE_PAGES} needed")
    return warn(
        f"{free} free of 2 MiB; the hub asks for {UMEM_HUGE_PAGES} when it starts, which fails"
        " once memory is fragmented",
        f"echo vm.nr_hugepages={UMEM_HUGE_PAGES} > /etc/sysctl.d/60-m13.conf && sysctl --system",
    )


def memlock() -> Verdict:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return ok("unlimited")
    text = f"{limit >> 10} KiB"
    if has_capability(CAP_IPC_LOCK):
        return ok(f"{text}, which CAP_IPC_LOCK lifts")
    if limit >= MEMLOCK_BYTES:
        return ok(text)
    mend = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit"
    return (fail if is_root() else warn)(f"{text}; {MEMLOCK_BYTES >> 10} KiB needed", mend)


def cpu_isolation() -> Verdict:
    plan = cpu.plan()
    if plan.note is None:
        return ok(f"worker on core {plan.worker}, TUN thread on core {plan.tun}")
    last = (os.cpu_count() or 1) - 1
    isolate = f"{max(last - 1, 1)}-{last}" if last > 1 else str(last)
    mend = f"boot with isolcpus={isolate} nohz_full={isolate} (GRUB_CMDLINE_LINUX, update-grub)"
    if not last:
        mend = "use a machine with two cores or more"
    return warn(plan.note, mend)


def aes_instructions(cpuinfo: str | None = None, machine: str | None = None) -> Verdict:
    machine = machine or platform.machine()
    if machine not in AES_FEATURES:
        return warn(f"{machine} is not a processor M13 knows", "use x86-64 or AArch64")
    if cpuinfo is None:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            cpuinfo = file.read()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    features = set(match[1].split()) if match else set()
    needed, faster = AES_FEATURES[machine]
    lacking = [name for name in needed if name not in features]
    if lacking:
        mend = "use a processor that has them, or let the hypervisor pass them on (-cpu host)"
        return fail(f"no {' '.join(lacking)}", mend)
    return ok(" ".join(name for name in needed + faster if name in features))


def btf() -> Verdict:
    if os.path.exists("/sys/kernel/btf/vmlinux"):
        return ok("/sys/kernel/btf/vmlinux")
    return warn("none", "use a kernel with CONFIG_DEBUG_INFO_BTF")


def shared_memory() -> Verdict:
    space = os.statvfs("/dev/shm")
    try:
        # A file without a name: nothing is left to remove.
        os.close(os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as error:
        return fail(f"/dev/shm: {error.strerror}", "mount -t tmpfs tmpfs /dev/shm")
    free = space.f_bavail * space.f_frsize
    if free < SHARED_MEMORY_BYTES:
        return fail(f"/dev/shm has {free >> 10} KiB left", "mount -o remount,size=64M /dev/shm")
    return ok(f"/dev/shm, {free >> 20} MiB free")


def capabilities() -> Verdict:
    lacking = [name for name, bit in CAPABILITIES.items() if not has_capability(bit)]
    if not lacking:
        return ok("all that hub and node use")
    if not is_root():
        return warn("not root", "run m13-hub and m13-node as root; sudo m13 doctor sees more")
    return fail(f"root without {' '.join(lacking)}", "give the container or unit these")


def tun() -> Verdict:
    mend = "modprobe tun (and, in a container, give it /dev/net/tun)"
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return unseen("/dev/net/tun")
    except OSError as error:
        return fail(f"/dev/net/tun: {error.strerror}", mend)
    try:
        features = fcntl.ioctl(descriptor, TUNGETFEATURES, bytes(4))
    finally:
        os.close(descriptor)
    if not struct.unpack("I", features)[0] & IFF_VNET_HDR:
        return warn("/dev/net/tun, without offloads", kernel("0.0").mend)
    return ok("/dev/net/tun, with offloads")


CHECKS = (
    Check("kernel", "io_uring and AF_XDP of older kernels lack what hub and node use", kernel),
    Check("io_uring", "a node's network and TUN run on one ring; a hub needs none", io_uring),
    Check(
        "io_uring group", "kernel.io_uring_group can keep the node from its ring", io_uring_group
    ),
    Check("huge pages", "packet memory in them costs fewer TLB misses", huge_pages),
    Check("memlock", "packet memory and rings are locked in memory", memlock),
    Check("CPU isolation", "whatever shares a core with the worker delays packets", cpu_isolation),
    Check("AES instructions", "AES-256-GCM seals every packet", aes_instructions),
    Check("BTF", "libxdp needs it to let several XDP programs share a NIC", btf),
    Check("shared memory", "counters for m13-hub --monitor live there", shared_memory),
    Check("capabilities", "TUN, XDP, routes and locked memory need them", capabilities),
    Check("TUN", "the tunnel's packets enter and leave the kernel there", tun),
)
