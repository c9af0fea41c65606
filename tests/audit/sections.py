"""What the linker throws away when it starts from what the bindings call: dead, transitively."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.audit.finding import BUILD, ROOT, Build, Finding, ask_setup, in_parallel, run

REMOVED = re.compile(r"removing unused section '\.(\S+?)\.(\S+)' in file '(\S+)'")
KINDS = {"text": "function", "data": "data", "bss": "data"}
WORD = re.compile(r"\bm13_\w+")


def unreached() -> Iterator[Finding]:
    """Functions and data of the core that no binding reaches by any chain of calls."""
    build = ask_setup()
    folder = BUILD / "sections"
    folder.mkdir(parents=True, exist_ok=True)
    objects = {_object(folder, source): source for source in build.sources}
    compiler = _compiler(build)
    in_parallel(
        lambda job: run([*compiler, "-c", job[1], "-o", str(job[0])]), list(objects.items())
    )
    link = ["gcc", "-shared", "-Wl,--gc-sections", "-Wl,--print-gc-sections"]
    link += [f"-Wl,-u,{name}" for name in sorted(called_by_bindings())]
    said = run([*link, *map(str, objects), *build.link_flags, "-o", str(folder / "core.so")])
    for section, name, place in REMOVED.findall(said.stderr):
        kind = KINDS.get(section.split(".")[0])
        if kind and Path(place) in objects:
            yield Finding(objects[Path(place)], f"{kind} {name} is reached by no binding")


def called_by_bindings() -> set[str]:
    """Every name of the core in a .pyx; C's own name where the mirror gives another."""
    bindings = (ROOT / "native").glob("*.pyx")
    words = {word for path in bindings for word in WORD.findall(path.read_text())}
    renamed = {
        binding: name
        for path in (ROOT / "native").glob("*/*.pxd")
        for binding, name in re.findall(r'\b(m13_\w+) "(m13_\w+)"', path.read_text())
    }
    return {renamed.get(word, word) for word in words}


def _object(folder: Path, source: str) -> Path:
    return folder / f"{Path(source).stem}.o"


def _compiler(build: Build) -> list[str]:
    # nothing is inlined: a function that is only called must not vanish before it is counted
    flags = [flag for flag in build.compile_flags if not flag.startswith(("-O", "-D_FORTIFY"))]
    return ["gcc", *flags, "-O0", "-fPIC", "-ffunction-sections", "-fdata-sections"]
