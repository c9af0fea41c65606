"""What pyproject.toml cannot say: pkg-config, the C core, the extensions, the BPF object."""

import os
import platform
import shlex
import subprocess
from glob import glob
from pathlib import Path
from typing import ClassVar

from Cython.Build import cythonize
from setuptools import Command, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SANITIZE = os.environ.get("M13_SANITIZE", "")  # e.g. "address,undefined" or "thread"
PROFILE = os.environ.get("M13_PROFILE", "")  # for clang: functions count how often they run
# ipsec-mb exists for x86-64 only; elsewhere, and when told so, libcrypto seals alone.
IPSEC_MB = platform.machine() == "x86_64" and not os.environ.get("M13_WITHOUT_IPSEC_MB")
LIBRARIES = {
    "libcrypto": "3.0",
    "libbpf": "1.1",
    "libxdp": "1.3",
    "liburing": "2.3",
    "libcap-ng": "0.8",
    "libseccomp": "2.5",
}

SOURCES = sorted(glob("native/core/*.c") + glob("native/path/*.c"))
if not IPSEC_MB:
    SOURCES.remove("native/core/aead_ipsecmb.c")
HEADERS = sorted(glob("native/core/*.h") + glob("native/path/*.h") + glob("bpf/*.h"))

COMPILE_FLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wcast-qual",
    "-Wvla",
    "-Werror",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    # -iquote, not -I: our sched.h must not hide the system's
    *(f"-iquote{folder}" for folder in ("native/core", "native/path", "bpf")),
]
if SANITIZE:
    COMPILE_FLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-O1", "-g"]
    COMPILE_FLAGS += ["-fno-sanitize-recover=undefined", "-DM13_DEBUG"]
    LINK_FLAGS = [f"-fsanitize={SANITIZE}"]
else:
    COMPILE_FLAGS += ["-O3", "-g1", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2"]
    if platform.machine() == "x86_64":
        COMPILE_FLAGS += ["-march=x86-64-v2", "-mtune=native"]
    LINK_FLAGS = ["-Wl,-z,relro,-z,now"]
if IPSEC_MB:
    COMPILE_FLAGS.append("-DM13_WITH_IPSEC_MB")
PROFILE_FLAGS = []
if PROFILE:
    # counters at a place of their own choice: the runtime maps a file there (tests/audit)
    PROFILE_FLAGS = ["-fprofile-instr-generate", "-mllvm", "-runtime-counter-relocation", "-O1"]
    LINK_FLAGS.append("-fprofile-instr-generate")
# What Cython generates is not ours to keep warning-free.
EXTENSION_FLAGS = [f for f in COMPILE_FLAGS if not f.startswith(("-W", "-fvisibility"))] + ["-Wall"]


def pkg_config(what: str) -> list[str]:
    """Flags of every library we need; one clear line when one is missing or too old."""
    for name, version in LIBRARIES.items():
        asked = subprocess.run(
            ["pkg-config", "--print-errors", f"{name} >= {version}"], capture_output=True, text=True
        )
        if asked.returncode:
            raise SystemExit(
                f"m13: {name} >= {version} not found; run 'make' once as root, or install the"
                f" packages of DEBIAN_PACKAGES in the Makefile ({asked.stderr.strip()})"
            )
    answer = subprocess.check_output(["pkg-config", what, *LIBRARIES], text=True)
    return shlex.split(answer)


def library_flags() -> list[str]:
    return ["-Wl,--as-needed", *pkg_config("--libs"), *(["-lIPSec_MB"] if IPSEC_MB else [])]


class BuildCore(build_clib):
    """The C core is compiled once, as a static library that every extension links."""

    def check_library_list(self, libraries: list) -> None:
        """setuptools knows no flags per library; our list is right by construction."""


class BuildExtensions(build_ext):
    def build_extensions(self) -> None:
        for extension in self.extensions:
            extension.extra_link_args = [*LINK_FLAGS, *library_flags()]
        super().build_extensions()


class BuildSteering(Command):
    """Compiles bpf/steer.bpf.c with clang to hub/steer.bpf.o."""

    description = "compile the XDP object"
    user_options: ClassVar[list] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = Path(self.get_outputs()[0])
        target.parent.mkdir(parents=True, exist_ok=True)
        machine = platform.machine()
        include = subprocess.check_output(["gcc", "-print-multiarch"], text=True).strip()
        subprocess.check_call(
            [
                *("clang", "-O2", "-g", "-target", "bpf", "-Wall", "-Wextra", "-Werror"),
                *(f"-I/usr/include/{include or machine + '-linux-gnu'}", "-Ibpf"),
                *("-c", "bpf/steer.bpf.c", "-o", str(target)),
            ]
        )

    def get_source_files(self) -> list[str]:
        return ["bpf/steer.bpf.c", *sorted(glob("bpf/*.h"))]

    def get_outputs(self) -> list[str]:
        root = "." if self.editable_mode else str(self.build_lib)
        return [f"{root}/hub/steer.bpf.o"]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


build.sub_commands.append(("build_steering", None))

extensions = [
    Extension(
        f"native.{Path(source).stem}",
        [source],
        # the archive too: a changed core must be linked anew
        depends=[*HEADERS, *SOURCES],
        extra_compile_args=[*EXTENSION_FLAGS, *PROFILE_FLAGS],
    )
    for source in sorted(glob("native/*.pyx"))
]
assert extensions, "no .pyx found: the source tree is incomplete"

setup(
    libraries=[
        (
            "m13core",
            {
                "sources": SOURCES,
                "cflags": [*COMPILE_FLAGS, *PROFILE_FLAGS, "-fPIC"],
                "obj_deps": {"": HEADERS},
            },
        )
    ],
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        include_path=["."],
        compiler_directives={"language_level": 3, "embedsignature": True},
    ),
    cmdclass={
        "build_clib": BuildCore,
        "build_ext": BuildExtensions,
        "build_steering": BuildSteering,
    },
)
