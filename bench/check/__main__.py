"""Instructions per packet of every stage against the stored budgets: make bench-check.

Counted by callgrind on recorded traffic, so neither load nor clock changes a figure. Exit status:
0 within the budgets, 1 a stage is more than 2 % beyond its own, 2 nothing could be compared.
"""

import json
import sys
from pathlib import Path

import click

from bench.check import budget, driver
from bench.check.budget import Row
from m13.errors import HostError

WITHIN, BEYOND, INCOMPARABLE = 0, 1, 2


@click.command(help=__doc__)
@click.option("--update", is_flag=True, help="Store what was counted as the new budgets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of the table.")
@click.option("--budgets", type=click.Path(path_type=Path), default=budget.BUDGETS, help="A file.")
def main(update: bool, as_json: bool, budgets: Path) -> None:
    try:
        counted = driver.count()
    except HostError as error:
        click.echo(f"bench-check: {error}", err=True)
        sys.exit(INCOMPARABLE)
    stored = budget.load(budgets)
    rows = budget.rows(counted, stored)
    obstacles = budget.obstacles(counted, stored)
    if as_json:
        click.echo(json.dumps(document(counted, rows, obstacles), indent=1))
    else:
        click.echo(table(rows))
    if update:
        budget.store(counted, budgets)
        click.echo(f"stored in {budgets}", err=True)
        sys.exit(WITHIN)
    sys.exit(judge(rows, obstacles))


def judge(rows: list[Row], obstacles: list[str]) -> int:
    """Says in words what is wrong, or what could be kept; the exit status."""
    for obstacle in obstacles:
        click.echo(f"bench-check: {obstacle}", err=True)
    if obstacles:
        click.echo("bench-check: 'python -m bench.check --update' counts anew", err=True)
        return INCOMPARABLE
    beyond = [row for row in rows if row.is_beyond]
    for row in beyond:
        words = f"{row.stage} takes {row.change_percent:.1f} % more instructions than its budget"
        click.echo(f"bench-check: {words}", err=True)
    if not beyond and any(row.is_gain for row in rows):
        click.echo("bench-check: keep the gain: python -m bench.check --update", err=True)
    return BEYOND if beyond else WITHIN


def table(rows: list[Row]) -> str:
    lines = [f"{'stage':20}{'instructions/packet':>20}{'budget':>10}{'change':>10}"]
    for row in rows:
        cells = [f"{row.instructions:.2f}", "–", "–"]
        if row.budget is not None:
            cells[1:] = [f"{row.budget:.2f}", f"{round(row.change_percent, 1) + 0.0:+.1f} %"]
        mark = "  beyond" if row.is_beyond else "  better" if row.is_gain else ""
        lines.append(f"{row.stage:20}{cells[0]:>20}{cells[1]:>10}{cells[2]:>10}{mark}")
    return "\n".join(lines)


def document(counted: driver.Count, rows: list[Row], obstacles: list[str]) -> dict[str, object]:
    return {
        "conditions": counted.conditions,
        "obstacles": obstacles,
        "stages": {
            row.stage: {
                "instructions": row.instructions,
                "budget": row.budget,
                "change_percent": row.change_percent if row.budget else None,
            }
            for row in rows
        },
    }


if __name__ == "__main__":
    main()
