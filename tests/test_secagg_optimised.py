"""SecAgg's optimised sharing on several devices: the oracle's bits, and the program's text."""

import pytest

from secagg_cases import Case, check, compiled
from test_program import faults_of

pytestmark = pytest.mark.optimised


def test_optimised_program_and_more_devices_give_the_same_bits():
    case, everybody = Case(9, 3, k=4, prg="chacha8-unrolled", devices=3), set(range(9))
    check(case, everybody, everybody, False)
    check(case, everybody, {0, 1, 2, 4, 6, 7, 8}, False)
    check(case, everybody - {1}, everybody - {1, 4, 6}, False)  # slot 1's update was not finite
    program, lowered = compiled(case, False)
    assert "ENTRY" in program.as_text()
    assert not faults_of(lowered, program.as_text())
