"""Trees that travel in entries: as many as there is room for, and whatever comes in their place does no harm."""

import pytest

from capsula.core.capsule import TYPE_URL as ORIGIN
from capsula.core.carried import LARGEST, TYPE_URL, trees_in, with_trees
from capsula.core.digest import digest_of
from capsula.core.reapi import ActionResult
from capsula.core.statement import attached, with_attached

PLAIN = with_attached(ActionResult(exit_code=3), ORIGIN, b"who made it")


def by_hash(*trees: bytes) -> dict[str, bytes]:
    return {digest_of(tree).hash: tree for tree in trees}


@pytest.mark.parametrize("trees", [(), (b"one",), (b"one", b"", b"x" * 60_000)])
def test_what_goes_in_comes_out(trees: tuple[bytes, ...]) -> None:
    carrying = with_trees(PLAIN, trees)
    assert trees_in(carrying) == by_hash(*trees)
    assert attached(carrying, ORIGIN) == b"who made it"
    assert with_trees(carrying, ()) == PLAIN


def test_what_there_is_no_room_for_is_left_out() -> None:
    large, small = b"x" * LARGEST, b"y" * 100
    assert trees_in(with_trees(PLAIN, [large])) == {}
    assert with_trees(PLAIN, [large]) == PLAIN
    assert trees_in(with_trees(PLAIN, [large, small, large])) == by_hash(small)
    assert trees_in(with_trees(PLAIN, [large[4:]])) == by_hash(large[4:])


@pytest.mark.parametrize("value", [b"\0", b"\0\0\0\5one", b"\xff" * 9, b"\0" * 9])
def test_what_is_no_tree_has_another_hash_than_that_of_one(value: bytes) -> None:
    found = trees_in(with_attached(PLAIN, TYPE_URL, value))
    assert all(digest_of(tree).hash == name for name, tree in found.items())
    assert digest_of(b"a tree").hash not in found


def test_more_than_there_is_room_for_is_not_looked_at() -> None:
    tree = b"x" * LARGEST
    value = len(tree).to_bytes(4, "big") + tree
    assert trees_in(with_attached(PLAIN, TYPE_URL, value)) == {}
