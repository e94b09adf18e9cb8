"""docs/reliability.md names each scenario, with tests that are there."""

import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = re.findall(
    r'^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \|$', (HERE.parents[1] / 'docs/reliability.md').read_text(), re.M
)
TESTS = re.findall(r'^def (test_s\d\w+)', ''.join(path.read_text() for path in HERE.glob('test_*.py')), re.M)


def test_all_scenarios_have_a_row():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 81))


def test_rows_name_all_tests_of_their_scenario():
    for number, _, _, tests in ROWS:
        here = [name for name in TESTS if name.startswith(f'test_s{int(number):02}_')]
        assert sorted(re.findall(r'`(\w+)`', tests)) == sorted(here) != [], number


def test_every_test_has_its_scenario():
    numbers = {int(number) for number, *_ in ROWS}
    assert {int(name[6:8]) for name in TESTS} <= numbers
