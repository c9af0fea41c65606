"""The stored budgets, and whether a count keeps to them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from bench.check.driver import Count

BUDGETS = Path(__file__).parent / "budgets.toml"
TOLERANCE_PERCENT = 2.0
HEAD = """\
# Instructions per packet, of our code and libc's: written by `python -m bench.check --update`.
"""


@dataclass(frozen=True)
class Row:
    stage: str
    instructions: float
    budget: float | None

    @property
    def change_percent(self) -> float:
        return (self.instructions / self.budget - 1) * 100 if self.budget else 0.0

    @property
    def is_beyond(self) -> bool:
        return self.change_percent > TOLERANCE_PERCENT

    @property
    def is_gain(self) -> bool:
        return self.change_percent < -TOLERANCE_PERCENT


def load(path: Path) -> Count | None:
    """None: nothing was stored yet."""
    if not path.exists():
        return None
    stored = tomllib.loads(path.read_text())
    ends = stored["instructions"]
    return Count(
        stored["conditions"],
        {f"{end}.{stage}": ends[end][stage] for end in ends for stage in ends[end]},
    )


def store(counted: Count, path: Path) -> None:
    lines = [HEAD, "[conditions]"]
    lines += [f'{name} = "{value}"' for name, value in counted.conditions.items()]
    for end in ("node", "hub"):
        lines += ["", f"[instructions.{end}]"]
        lines += [
            f"{name.removeprefix(end + '.')} = {value:.3f}"
            for name, value in counted.instructions.items()
            if name.startswith(f"{end}.")
        ]
    path.write_text("\n".join(lines) + "\n")


def obstacles(counted: Count, stored: Count | None) -> list[str]:
    """Why the two cannot be compared, a line each; empty when they can."""
    if not stored:
        return ["there are no budgets yet"]
    found = [
        f"{name} is {value} here, the budgets were counted with {stored.conditions.get(name)}"
        for name, value in counted.conditions.items()
        if _essence(name, value) != _essence(name, stored.conditions.get(name, ""))
    ]
    added = counted.instructions.keys() - stored.instructions.keys()
    gone = stored.instructions.keys() - counted.instructions.keys()
    found += [f"stage {name} has no budget" for name in sorted(added)]
    found += [f"stage {name} has a budget, but is not counted" for name in sorted(gone)]
    return found


def rows(counted: Count, stored: Count | None) -> list[Row]:
    budgets = stored.instructions if stored else {}
    return [Row(name, value, budgets.get(name)) for name, value in counted.instructions.items()]


def _essence(name: str, value: str) -> str:
    """Compilers of one major version make the same code of the same source."""
    return value.partition(".")[0] if name == "compiler" else value
