"""The trie and the rows made of it, against direct definitions; no model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.engines.hf.score.row import branches, chain
from evalkit.engines.hf.score.trie import Ids, Trie, build_trie

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple)
SETS = st.lists(IDS, min_size=1, max_size=12, unique=True)


def ids_of(trie: Trie, index: int) -> Ids:
    """Tokens of a node."""
    node = trie.nodes[index]
    return trie.sequences[node.sequence][node.start : node.stop]


def prefixes(sequences: Sequence[Ids]) -> set[Ids]:
    return {ids[:n] for ids in sequences for n in range(1, len(ids) + 1)}


def text_of(trie: Trie, index: int) -> Ids:
    return tuple(t for k in trie.path(index) for t in ids_of(trie, k))


@given(SETS)
def test_trie_holds_every_prefix_once(sequences: list[Ids]) -> None:
    trie = build_trie(sequences, [1] * len(sequences))
    assert trie.tokens == len(prefixes(sequences))
    assert {n.end for n in trie.nodes if n.end >= 0} == set(range(len(sequences)))
    for index, node in enumerate(trie.nodes):
        assert node.stop > node.start
        if node.end >= 0:
            assert text_of(trie, index) == sequences[node.end]
        else:
            assert len(node.children) > 1  # chains are merged
        firsts = [ids_of(trie, c)[0] for c in node.children]
        assert len(set(firsts)) == len(firsts)
        assert all(trie.nodes[c].parent == index and trie.nodes[c].start == node.stop for c in node.children)


@given(SETS)
def test_preorder_sizes_and_places(sequences: list[Ids]) -> None:
    trie = build_trie(sequences, [1] * len(sequences))
    inner = {ids[:-1] for ids in prefixes(sequences)} - {()}
    assert trie.sizes[-1] == len(inner)  # what has a successor must be read
    base = 0
    for index, node in enumerate(trie.nodes):
        assert node.base == base
        base += node.stop - node.start
        below = [k for k in range(len(trie.nodes)) if index in trie.path(k)]
        assert below == list(range(index, node.last))
        assert trie.size(index) == sum(trie.nodes[k].forwarded for k in below)


@given(SETS, st.data())
def test_needs_are_the_least_below(sequences: list[Ids], data: st.DataObject) -> None:
    needs = [data.draw(st.integers(1, len(ids))) for ids in sequences]
    trie = build_trie(sequences, needs)
    for node in trie.nodes:
        through = [
            i for i, ids in enumerate(sequences) if ids[: node.stop] == trie.sequences[node.sequence][: node.stop]
        ]
        assert node.need == min(needs[i] for i in through)


@given(SETS)
@settings(max_examples=60)
def test_a_row_shows_each_token_its_own_path(sequences: list[Ids]) -> None:
    """A whole trie as one row: what a token may look at, in order, is the text in front of it."""
    trie = build_trie(sequences, [1] * len(sequences))
    row = branches(trie, range(len(trie.nodes)), set())
    seen = [[i for i in range(j + 1) if j < row.ends[i]] for j in range(len(row.ids))]
    texts = [tuple(row.ids[i] for i in places) for places in seen]
    assert sorted(texts) == sorted({ids[:-1] for ids in prefixes(sequences)} - {()})
    for places in seen:
        assert [row.positions[i] for i in places] == list(range(len(places)))
    asked = {(*texts[h], t) for h, t in zip(row.heads, row.targets, strict=True)}
    assert asked == {ids for ids in prefixes(sequences) if len(ids) > 1}
    assert len(row.slots) == len(set(row.slots)) == len(asked)


@given(st.lists(IDS, min_size=1, max_size=8, unique=True), st.integers(1, 5))
def test_chains_and_branches_ask_for_every_token_once(sequences: list[Ids], width: int) -> None:
    """The first node's chain in pieces, then what is below it."""
    stem = (9, 8, 7, 6, 5)
    trie = build_trie([stem + ids for ids in sequences], [1] * len(sequences))
    node = trie.nodes[0]
    stop, slots = node.forwarded, list[int]()
    for begin in range(0, stop, width):
        slots += chain(trie, [0], begin, min(begin + width, stop), set()).slots
    if node.children:
        slots += branches(trie, range(1, len(trie.nodes)), {0}).slots
    assert sorted(slots) == list(range(1, trie.tokens))


@pytest.mark.parametrize("sequences", [[()], [(1,), (1,)]])
def test_empty_and_repeated_sequences_are_refused(sequences: list[Ids]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        build_trie(sequences, [1] * len(sequences))


def test_deep_nesting_does_not_recurse() -> None:
    sequences = [tuple(range(n)) for n in range(1, 3000)]
    trie = build_trie(sequences, [1] * len(sequences))
    assert len(trie.nodes) == len(sequences) and trie.tokens == 2999
    assert build_trie([], []).tokens == 0
