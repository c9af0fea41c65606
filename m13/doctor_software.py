"""What the doctor asks of the libraries, our own extensions and the PQC providers."""

import ctypes
import importlib
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import native
from m13 import pqc
from m13.doctor_finding import Check, Verdict, fail, ok, warn


class Library(NamedTuple):
    soname: str
    minimum: tuple[int, ...]
    package: str
    why: str
    version_function: str = ""


LIBRARIES = {
    "libcrypto": Library(
        "libcrypto.so.3", (3, 0), "libssl3", "AES-GCM where ipsec-mb is not", "OpenSSL_version"
    ),
    "libbpf": Library("libbpf.so.1", (1, 1), "libbpf1", "loads XDP", "libbpf_version_string"),
    "libxdp": Library("libxdp.so.1", (1, 3), "libxdp1", "the hub's AF_XDP sockets"),
    "liburing": Library("liburing.so.2", (2, 3), "liburing2", "the node's ring"),
    "libcap-ng": Library("libcap-ng.so.0", (0,), "libcap-ng0", "gives up capabilities"),
    "libseccomp": Library("libseccomp.so.2", (2, 5), "libseccomp2", "gives up system calls"),
    "libnftables": Library("libnftables.so.1", (1, 0), "libnftables1", "the hub's NAT"),
}
if platform.machine() == "x86_64":
    LIBRARIES["ipsec-mb"] = Library(
        "libIPSec_MB.so.1",
        (1, 0),
        "libipsec-mb1",
        "AES-GCM at four times the speed of libcrypto",
        "imb_get_version_str",
    )


def library(wanted: Library) -> Verdict:
    mend = f"apt-get install {wanted.package}"
    try:
        loaded = ctypes.CDLL(wanted.soname)
    except OSError as error:
        return fail(str(error), mend)
    text = _version(loaded, wanted)
    match = re.search(r"\d+(\.\d+)+", text)
    if match is None:
        return ok(wanted.soname)
    version = tuple(int(part) for part in match[0].split("."))
    if version < wanted.minimum:
        return fail(f"{match[0]}; {'.'.join(map(str, wanted.minimum))} needed", mend)
    return ok(match[0])


def _version(loaded: ctypes.CDLL, wanted: Library) -> str:
    """What the library says of itself, else what its file is called."""
    if wanted.version_function:
        function = getattr(loaded, wanted.version_function)
        function.restype = ctypes.c_char_p
        return function(0).decode()
    stem = wanted.soname.partition(".so")[0]
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith(stem + ".so."):
            return Path(path).resolve().name.partition(".so.")[2]
    return ""


def extensions() -> Verdict:
    names = sorted(path.stem for place in native.__path__ for path in Path(place).glob("*.pyi"))
    missing = []
    for name in names:
        try:
            importlib.import_module(f"native.{name}")
        except ImportError as error:
            missing.append(f"{name} ({error})")
    if missing or not names:
        return fail(f"cannot import {', '.join(missing) or 'any'}", "make")
    return ok(" ".join(names))


def providers() -> Verdict:
    had, lacking = [], []
    for name, provider in pqc.PROVIDERS.items():
        try:
            provider()
            had.append(f"{name} {importlib.metadata.version(name)}")
        except Exception as error:
            lacking.append(f"{name}: {error}")
    mend = "pip install -U cryptography pqcrypto"
    if not had:
        return fail("; ".join(lacking), mend)
    if lacking:
        return warn(f"{', '.join(had)}; {'; '.join(lacking)}", mend)
    return ok(", ".join(had))


def checks() -> Iterable[Check]:
    for name, wanted in LIBRARIES.items():
        yield Check(name, wanted.why, lambda wanted=wanted: library(wanted))  # type: ignore[misc]
    yield Check("native modules", "hub and node run in C", extensions)
    yield Check("PQC providers", "ML-KEM-1024 and ML-DSA-87 of the handshake", providers)
