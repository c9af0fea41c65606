"""The C of native/ as clang understands it: every declaration, and every place that uses one."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from clang.cindex import Cursor, CursorKind, Index, StorageClass, TypeKind

from tests.audit.finding import ROOT, AuditError, ask_setup, run

ERROR_SEVERITY = 3


@dataclass(frozen=True, order=True)
class Symbol:
    """Something declared in native/. A structure's field, or a constant, belongs to its owner."""

    file: str
    line: int
    name: str
    owner: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass
class Program:
    """All of native/ together."""

    functions: dict[Symbol, bool] = field(default_factory=dict)  # defined; True: external
    called_from: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    fields: set[Symbol] = field(default_factory=set)
    read: set[Symbol] = field(default_factory=set)
    constants: set[Symbol] = field(default_factory=set)
    constants_used: set[Symbol] = field(default_factory=set)
    discarded: set[Symbol] = field(default_factory=set)  # calls whose result goes nowhere


@cache
def program() -> Program:
    """AuditError when clang does not understand a file: what it skipped would look unused."""
    build = ask_setup()
    # libclang comes without the headers that belong to the compiler
    resources = run(["clang", "-print-resource-dir"]).stdout.strip()
    flags = [flag for flag in build.compile_flags if not flag.startswith(("-W", "-mtune"))]
    flags = [flag.replace("-iquote", f"-iquote{ROOT}/") for flag in flags]
    found = Program()
    index = Index.create()
    for source in build.sources:
        unit = index.parse(str(ROOT / source), [*flags, f"-I{resources}/include"])
        wrong = [said for said in unit.diagnostics if said.severity >= ERROR_SEVERITY]
        if wrong:
            raise AuditError(f"clang: {wrong[0]}")
        for cursor in unit.cursor.get_children():
            if _symbol(cursor):
                _walk(cursor, None, source, found)
    return found


def _symbol(cursor: Cursor | None) -> Symbol | None:
    """None for what is not ours."""
    place = cursor.location.file if cursor else None
    if not cursor or not place or not place.name.startswith(f"{ROOT}/"):
        return None  # a builtin is nowhere, though what is called may stand in our file
    owner = ""
    if cursor.kind in (CursorKind.FIELD_DECL, CursorKind.ENUM_CONSTANT_DECL):
        owner = cursor.semantic_parent.spelling
    file = place.name.removeprefix(f"{ROOT}/")
    return Symbol(file, cursor.location.line, cursor.spelling, owner)


def _walk(cursor: Cursor, parent: Cursor | None, source: str, found: Program) -> None:
    _note(cursor, parent, source, found)
    children = list(cursor.get_children())
    written = _assigned(cursor, children)
    for child in children:
        if child is written and child.kind == CursorKind.MEMBER_REF_EXPR:
            # the field is only written; what leads to it is read
            for inner in child.get_children():
                _walk(inner, child, source, found)
        else:
            _walk(child, cursor, source, found)


def _note(cursor: Cursor, parent: Cursor | None, source: str, found: Program) -> None:
    kind, symbol = cursor.kind, _symbol(cursor)
    if symbol and kind == CursorKind.FIELD_DECL and cursor.spelling:
        found.fields.add(symbol)
    elif symbol and kind == CursorKind.ENUM_CONSTANT_DECL:
        found.constants.add(symbol)
    elif symbol and kind == CursorKind.FUNCTION_DECL and cursor.is_definition():
        found.functions[symbol] = cursor.storage_class != StorageClass.STATIC
    elif kind in (CursorKind.MEMBER_REF_EXPR, CursorKind.MEMBER_REF, CursorKind.DECL_REF_EXPR):
        designated = parent is not None and parent.kind == CursorKind.INIT_LIST_EXPR
        used = _symbol(cursor.referenced)
        if used and cursor.referenced.kind == CursorKind.FUNCTION_DECL:
            found.called_from[used.name].add(source)
        elif used and cursor.referenced.kind == CursorKind.ENUM_CONSTANT_DECL:
            found.constants_used.add(used)
        elif used and not (kind == CursorKind.MEMBER_REF and designated):
            found.read.add(used)
    elif kind == CursorKind.CALL_EXPR and symbol and parent is not None:
        builtin = cursor.spelling.startswith("__builtin_")  # what fortify makes of printf
        is_statement = parent.kind == CursorKind.COMPOUND_STMT and not builtin
        if is_statement and cursor.type.kind != TypeKind.VOID and _symbol(cursor.referenced):
            found.discarded.add(symbol)


def _assigned(cursor: Cursor, children: list[Cursor]) -> Cursor | None:
    """The left side of a plain assignment."""
    if cursor.kind != CursorKind.BINARY_OPERATOR or len(children) != 2:
        return None
    left = sum(1 for _ in children[0].get_tokens())
    operator: Any = next(
        (token for number, token in enumerate(cursor.get_tokens()) if number == left), None
    )
    return children[0] if operator is not None and operator.spelling == "=" else None


def functions() -> Iterator[Symbol]:
    """Every function that native/ defines, in headers too."""
    yield from sorted(program().functions)
