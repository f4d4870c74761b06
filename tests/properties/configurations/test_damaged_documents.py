"""No shown document, however damaged, ends in a traceback; `scripts/fuzz-configurations` plays many more seeds."""

import pytest

from support.documents import readers, trouble

SEEDS, PARTS = 400, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_a_damaged_document_is_understood_or_refused_in_our_words(part: int):
    known = readers()
    found = {seed: what for seed in range(part, SEEDS, PARTS) if (what := trouble(seed, known))}
    assert found == {}
