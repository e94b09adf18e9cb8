"""Bars, what was measured against them, and whether it is a hit."""

from __future__ import annotations

import sys
from typing import Any

VERDICTS = {True: 'hit', False: 'MISSED', None: 'not measured'}


def verdict_of(
    what: str, demand: str, measured: float | None = None, hit: bool | None = None, note: str = ''
) -> dict[str, Any]:
    """`hit` of None: there was nothing to compare with."""
    return {'what': what, 'demand': demand, 'measured': measured, 'hit': hit, 'note': note}


def print_bars(verdicts: list[dict[str, Any]]) -> None:
    wide = max(len(each['what']) for each in verdicts)
    print(f'\n{"bars":{wide}} {"demanded":46} {"measured":>9}')
    for each in verdicts:
        measured = '-' if each['measured'] is None else f'{each["measured"]:.4g}'
        note = f' ({each["note"]})' * bool(each['note'])
        print(f'{each["what"]:{wide}} {each["demand"]:46} {measured:>9} {VERDICTS[each["hit"]]}{note}')


def check(verdicts: list[dict[str, Any]]) -> None:
    """Fails where a bar is missed, or where there is none."""
    missed = sum(each['hit'] is False for each in verdicts)
    if missed or not any(each['hit'] for each in verdicts):
        sys.exit(f'check failed: {missed} of {len(verdicts)} bars are missed')
