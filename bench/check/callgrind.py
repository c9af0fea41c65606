"""Reading callgrind's profile: what each dump cost, by the object the instructions lie in.

The format is described in "Callgrind Format Specification" of Valgrind's manual. Of it only self
costs are taken: the line after a `calls=` line tells what the callee cost, which is told again
where the callee is.
"""

from collections import Counter

from m13.errors import HostError

TRIGGER = "desc: Trigger: Client Request: "


def parse(text: str) -> dict[str, dict[str, int]]:
    """Dump named by a client request -> object file -> instructions; other dumps are left out.

    Wants --combine-dumps=yes, --compress-strings=no and --compress-pos=no, and the one event Ir.
    HostError when a dump's lines do not add up to the total that callgrind says.
    """
    dumps: dict[str, dict[str, int]] = {}
    for part in text.split("\npart: ")[1:]:
        name, costs, total = _parse_part(part.splitlines())
        if sum(costs.values()) != total:
            raise HostError(f"callgrind's dump {name!r} does not add up: another format?")
        if name:
            dumps[name] = costs
    return dumps


def _parse_part(lines: list[str]) -> tuple[str, dict[str, int], int]:
    name, where, total = "", "", -1
    is_of_callee = False
    costs: Counter[str] = Counter()
    for line in lines[1:]:
        if line.startswith(TRIGGER):
            name = line.removeprefix(TRIGGER)
        elif line.startswith("events: ") and line != "events: Ir":
            raise HostError(f"callgrind counted {line}, not instructions alone")
        elif line.startswith("ob="):
            where = line.removeprefix("ob=")
        elif line.startswith("calls="):
            is_of_callee = True
        elif line.startswith("totals: "):
            total = int(line.removeprefix("totals: "))
        elif line[:1].isdigit():
            if not is_of_callee:
                costs[where] += int(line.split()[1])
            is_of_callee = False
    return name, dict(costs), total
