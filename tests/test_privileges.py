"""What the filters and the capability sets really stop, tried by processes that have them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PERMITTED = """
poller = select.poll()
poller.register(0)
os.write(1, b"x")
poller.poll(1)
os.urandom(32)
time.sleep(0.001)
assert len(bytes(64 << 20)) == 64 << 20
hashlib.sha512(b"").digest()
os.write(1, b"done")
"""

# what code that took the worker over would try
FORBIDDEN = {
    "open": "os.open('/dev/null', os.O_RDONLY)",
    "socket": "socket.socket()",
    "execve": "os.execv('/bin/true', ['true'])",
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "fork": "os.fork()",
    "kill": "os.kill(os.getppid(), 0)",
    "another process's memory": "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
    "prctl": "libc.prctl(3, 0, 0, 0, 0)",
    "executable memory": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "memory made executable": "libc.mprotect(ctypes.c_void_p(page), 4096, 5)",
    "eventfd": "os.eventfd(0)",
    "unlink": "os.unlink('/nonexistent')",
    "io_uring": "libc.syscall(425, 8, ctypes.byref(ctypes.create_string_buffer(120)))",
}

PREPARE = """
import ctypes, hashlib, mmap, os, resource, select, socket, time
from native import seccomp
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
libc = ctypes.CDLL(None)
memory = mmap.mmap(-1, 8192)
page = ctypes.addressof(ctypes.c_char.from_buffer(memory))
seccomp.{}()
os.write(2, b"confined;")
"""


def run(filter_function: str, code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", f"{PREPARE.format(filter_function)}\n{code}"],
        capture_output=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )


def test_a_computing_process_may_compute_and_end():
    done = run("allow_computing", PERMITTED)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"xdone", b"confined;")


@pytest.mark.parametrize("call", FORBIDDEN)
def test_a_computing_process_is_killed_by_any_other_call(call):
    done = run("allow_computing", FORBIDDEN[call])
    assert done.stderr == b"confined;"
    assert done.returncode == -signal.SIGSYS


REFUSED = {
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "another process's memory": "libc.process_vm_readv(os.getpid(), None, 0, None, 0, 0)",
    "a namespace": "libc.unshare(0x40000000)",
    "a mount": "libc.mount(b'none', b'/mnt', b'tmpfs', 0, None)",
    "another root": "libc.chroot(b'/')",
    "a module": "libc.syscall(number['init_module'], None, 0, b'')",
    "another kernel": "libc.syscall(number['kexec_load'], 0, 0, None, 0)",
    "a BPF map": "libc.syscall(number['bpf'], 0, None, 0)",
    "a BPF program": "libc.syscall(number['bpf'], 5, None, 0)",
}
NUMBERS = {
    "x86_64": {"init_module": 175, "kexec_load": 246, "bpf": 321},
    "aarch64": {"init_module": 105, "kexec_load": 104, "bpf": 280},
}


def errno_of(call: str, confined: bool) -> str:
    code = f"""
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
number = {NUMBERS[os.uname().machine]}
{"from native import seccomp; seccomp.refuse_administration()" if confined else ""}
print(errno.errorcode.get(ctypes.get_errno(), "none") if {call} else "none")
"""
    return subprocess.check_output([sys.executable, "-c", code], text=True, timeout=20).strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is refused anyway")
@pytest.mark.parametrize("call", REFUSED)
def test_administration_is_refused_and_the_process_lives(call):
    assert errno_of(REFUSED[call], confined=True) == "EPERM"
    if "module" in call or "kernel" in call or call == "a mount":
        return  # a machine may refuse these by itself
    assert errno_of(REFUSED[call], confined=False) != "EPERM"


def test_elements_of_an_open_map_are_still_reached():
    # EFAULT, EINVAL or EBADF: the kernel looked at the arguments
    assert errno_of("libc.syscall(number['bpf'], 2, None, 0)", confined=True) != "EPERM"


THREADS = """
import threading
from m13 import privileges
from pathlib import Path

def sets(wait=None):
    lines = Path("/proc/thread-self/status").read_text().splitlines()
    print(*(f"{int(line.split()[1], 16):x}" for line in lines if line.startswith("Cap")))

def bare():
    privileges.forgo()
    sets()

for run in (bare, privileges.keep_for_service, sets):
    if run is privileges.keep_for_service:
        run()
        continue
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="dropping root's privileges needs root")
def test_each_thread_keeps_what_it_was_left():
    lines = subprocess.check_output([sys.executable, "-c", THREADS], text=True).split("\n")
    names = ("kill", "setgid", "setuid", "setpcap", "net_admin")
    numbers = dict(zip(names, (5, 6, 7, 8, 12), strict=True))  # linux/capability.h
    permitted = sum(1 << numbers[name] for name in names)
    effective = 1 << numbers["net_admin"] | 1 << numbers["kill"]
    # inheritable, permitted, effective, bounding, ambient
    assert lines[0].split() == ["0"] * 5
    assert lines[1].split() == ["0", f"{permitted:x}", f"{effective:x}", f"{permitted:x}", "0"]


def test_an_unknown_capability_is_an_error():
    from native import capability

    with pytest.raises(ValueError, match="net_god"):
        capability.reduce(permitted=["net_god"])


def test_memory_is_locked_and_not_dumped():
    code = (
        "from m13 import privileges; print(privileges.guard_memory());"
        "print(open('/proc/self/status').read()); print(open('/proc/self/limits').read())"
    )
    told = subprocess.check_output([sys.executable, "-c", code], text=True)
    note, status = told.split("\n", 1)
    locked = next(line for line in status.splitlines() if line.startswith("VmLck:"))
    assert (note == "None") == (int(locked.split()[1]) > 0)
    core = next(line for line in status.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at all")
def test_nobody_else_may_look_into_a_guarded_process():
    code = (
        "import os, sys; from m13 import privileges; os.setuid(65533); privileges.guard_memory();"
        "print('ready', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        owner = Path(f"/proc/{child.pid}/mem").stat().st_uid
        child.stdin.close()
    assert owner == 0
