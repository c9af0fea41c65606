"""What a figure means nothing without."""

import subprocess
import sys
import time

from bench import machine

TICKS_PER_S = 100  # USER_HZ of every architecture M13 runs on


def test_a_disturbed_machine_is_named() -> None:
    assert machine.warning(0.2) is None
    assert machine.disturbance(3) is None
    assert "load 2.91" in (machine.warning(2.91) or "")
    assert "55 % of a core" in (machine.disturbance(55) or "")


def test_the_work_of_another_program_shows_in_the_busy_ticks() -> None:
    before = machine.busy_ticks()
    work = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    time.sleep(0.02)
    assert machine.busy_ticks() - before >= 0.4 * TICKS_PER_S


def test_the_facts_are_there() -> None:
    facts = machine.facts()
    assert set(facts) == {"processor", "cores", "kernel", "architecture", "load"}
    assert [name for name, text in facts.items() if not text] == []
