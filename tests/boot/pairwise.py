"""A small pairwise generator: few rows that bring every pair of values of any two factors together.

Greedy: each new row is the one that covers most missing pairs. So rows come in order of usefulness, and a prefix of
them is the best short test.
"""

import itertools
from collections.abc import Callable, Sequence

Row = tuple


def missing_pairs(factors: Sequence[Sequence], allowed: Callable[[Row], bool]) -> dict:
    """All pairs that some allowed row contains, in a fixed order."""
    pairs = {}
    for row in itertools.product(*factors):
        if allowed(row):
            for pair in pairs_of(row):
                pairs[pair] = True
    return pairs


def pairs_of(row: Row):
    return (((i, row[i]), (j, row[j])) for i, j in itertools.combinations(range(len(row)), 2))


def rows(factors: Sequence[Sequence], allowed: Callable[[Row], bool], first: Sequence[Row] = ()) -> list[Row]:
    """Rows that cover every possible pair, beginning with the rows `first`."""
    candidates = [row for row in itertools.product(*factors) if allowed(row)]
    missing = missing_pairs(factors, allowed)
    result = []
    for row in first:
        assert allowed(row), row
        result.append(row)
        for pair in pairs_of(row):
            missing.pop(pair, None)
    uses = {(i, value): 0 for i, values in enumerate(factors) for value in values}
    while missing:
        # Ties go to the values that were used least, so that a prefix is balanced too.
        best = max(candidates, key=lambda row: (sum(pair in missing for pair in pairs_of(row)),
                                                -sum(uses[cell] for cell in enumerate(row))))
        result.append(best)
        for cell in enumerate(best):
            uses[cell] += 1
        for pair in pairs_of(best):
            missing.pop(pair, None)
    return result
