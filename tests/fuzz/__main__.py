"""python -m tests.fuzz [--seconds N] [TARGET ...]: fuzzes the parsers, all but the canary."""

import argparse
import re
import sys

from . import targets


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(targets.TARGETS))
    chosen = parser.parse_args()
    names = chosen.targets or [name for name in targets.TARGETS if name != "canary"]
    if unknown := set(names) - set(targets.TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    targets.build(names)
    failed = []
    for name in names:
        print(f"==> {name}: {chosen.seconds} s", flush=True)
        done = targets.run(name, chosen.seconds)
        found = re.findall(r"(?:number_of_executed_units|new_units_added):\s+\d+", done.stderr)
        print(f"    {', '.join(found)}")
        if done.returncode:
            failed.append(name)
            print(done.stderr[-6000:])
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
