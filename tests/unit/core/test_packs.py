"""Which blobs of a result are in which pack, and what a pack is as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.core.digest import Digest, digest_of
from capsula.core.packs import (
    FEWEST,
    LARGEST_MEMBER,
    SIZE,
    TYPE_URL,
    Cutting,
    Pack,
    grouped,
    head,
    packs_of,
    with_packs,
)
from capsula.core.reapi import ActionResult, OutputDirectory
from capsula.core.statement import attached, with_attached
from capsula.errors import BlobCorrupt

NONE = ActionResult()


def blobs(count: int, size: int = 100) -> dict[str, bytes]:
    contents = [b"%06d" % number + b"." * (size - 6) for number in range(count)]
    return {digest_of(content).hash: content for content in contents}


def digests(contents: dict[str, bytes]) -> list[Digest]:
    return [Digest(name, len(content)) for name, content in contents.items()]


def packed(contents: dict[str, bytes]) -> bytes:
    members = sorted(digests(contents), key=lambda each: each.hash)
    return head(members) + b"".join(contents[each.hash] for each in members)


def cut(content: bytes, pieces: int, size: int | None = None) -> dict[str, bytes]:
    cutting = Cutting(Digest("0" * 64, len(content) if size is None else size))
    found: dict[str, bytes] = {}
    whole = []
    for at in range(0, len(content), pieces):
        for member, part, is_last in cutting.cut(content[at : at + pieces]):
            found[member.hash] = found.get(member.hash, b"") + bytes(part)
            if is_last:
                assert len(found[member.hash]) == member.size_bytes
                whole.append(member.hash)
    cutting.end()
    assert whole == list(found)
    return found


def test_few_blobs_go_alone() -> None:
    assert grouped(NONE, digests(blobs(FEWEST - 1))) == []
    assert [len(members) for _, members in grouped(NONE, digests(blobs(FEWEST)))] == [FEWEST]


def test_large_ones_empty_ones_and_trees_go_alone() -> None:
    small = digests(blobs(20))
    result = ActionResult(output_directories=(OutputDirectory(path="out", tree_digest=small[3]),))
    others = [digest_of(b""), Digest("a" * 64, LARGEST_MEMBER + 1)]
    [(begin, members)] = grouped(result, [*small, *others, *small[:5]])
    assert begin == "0000"
    assert members == sorted(
        {each.hash: each for each in small if each != small[3]}.values(), key=lambda d: d.hash
    )


def test_each_is_where_the_packs_say() -> None:
    contents = blobs(300, 20_000)
    groups = grouped(NONE, digests(contents))
    assert len(groups) == 8
    assert sum(len(members) for _, members in groups) == 300
    assert all(sum(each.size_bytes for each in members) < 2 * SIZE for _, members in groups)
    packs = [Pack(begin, digest_of(begin.encode())) for begin, _ in groups]
    known = packs_of(with_packs(NONE, packs[::-1]))
    large = Digest("f" * 64, LARGEST_MEMBER + 1)
    alone, wanted = known.split([*digests(contents), large])
    assert alone == [large]
    for begin, members in groups:
        pack = digest_of(begin.encode())
        assert sorted(each.hash for each in wanted[pack.hash][1]) == [each.hash for each in members]
        assert wanted[pack.hash][0] == pack


def test_one_blob_that_changed_changes_two_packs_at_most() -> None:
    contents = blobs(1000, 20_000)
    before = dict(grouped(NONE, digests(contents)))
    contents.pop(next(iter(contents)))
    contents[digest_of(b"new" * 5000).hash] = b"new" * 5000
    after = dict(grouped(NONE, digests(contents)))
    assert set(before) == set(after)
    assert len(before) == 32
    assert 1 <= len([begin for begin in before if before[begin] != after[begin]]) <= 2


def test_ten_thousand_small_files_are_few_packs() -> None:
    assert len(grouped(NONE, digests(blobs(10_000, 1000)))) == 16


@given(st.integers(1, 30), st.integers(6, 3000), st.integers(1, 5000))
def test_a_pack_is_cut_into_its_members_however_it_comes(count: int, size: int, pieces: int) -> None:
    contents = blobs(count, size)
    assert cut(packed(contents), pieces) == contents


def test_what_is_no_pack_is_refused() -> None:
    good = packed(blobs(10))
    numbers = len(b"capsula-pack1\n")
    wrong = {
        "empty": b"",
        "another thing": b"PK\3\4" + good,
        "cut in the head": good[:40],
        "cut": good[:-1],
        "more": good + b".",
        "more members": good[:numbers] + b"\xff\xff\xff\xff" + good[numbers + 4 :],
        "fewer members": good[:numbers] + b"\0\0\0\1" + good[numbers + 4 :],
        "none": b"capsula-pack1\n\0\0\0\0",
        "an empty member": head([digest_of(b"")]),
    }
    for what, content in wrong.items():
        if what == "none":
            assert cut(content, 7) == {}
            continue
        for pieces in (1, 7, 10_000):
            with pytest.raises(BlobCorrupt):
                cut(content, pieces)
    # The size is what the entry says of it, and what comes is something else.
    for size in (len(good) - 1, len(good) + 1):
        with pytest.raises(BlobCorrupt):
            cut(good, 100, size)


def test_a_head_that_lies_is_not_waited_for() -> None:
    cutting = Cutting(Digest("0" * 64, 1000))
    with pytest.raises(BlobCorrupt):
        list(cutting.cut(b"capsula-pack1\n\x7f\xff\xff\xff"))


def test_many_members_in_one_piece_are_not_copied() -> None:
    content = packed(blobs(100, 10))
    cutting = Cutting(Digest("0" * 64, len(content)))
    assert list(cutting.cut(content[:-900])) != []
    piece = content[-900:]
    parts = [part for _, part, _ in cutting.cut(piece)]
    assert len(parts) == 90
    assert all(isinstance(part, memoryview) and part.obj is piece for part in parts)


def test_what_is_no_blob_or_too_large_for_a_pack_or_begins_nowhere_is_not_asked_for() -> None:
    wanted = Digest("8" * 64, 1)
    for name in (
        "",
        "..",
        "../../ac/" + "a" * 64,
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "\0" * 64,
        "\xe9" * 64,
        "a/" * 32,
    ):
        known = packs_of(with_packs(NONE, [Pack("0000", Digest(name, 1000))]))
        assert known.split([wanted]) == ([wanted], {}), name
    for begin in ("", "0", "00000", "000G", "\udcff000", "-001"):
        known = packs_of(with_packs(NONE, [Pack(begin, Digest("a" * 64, 1000))]))
        assert known.packs == [], begin
    for size, is_asked in ((0, False), (8 * SIZE, True), (8 * SIZE + 1, False)):
        known = packs_of(with_packs(NONE, [Pack("0000", Digest("a" * 64, size))]))
        assert bool(known.split([wanted])[1]) == is_asked, size


def test_what_an_entry_says_of_its_packs_may_be_anything() -> None:
    for said in (
        b"",
        b"\xff",
        b"1(3:foo,)",
        b"4(4:pack,4:0000,2:ab,1:x,)",
        b"4(4:pack,4:0000,2:ab,12:999999999999,)",
    ):
        known = packs_of(with_attached(NONE, TYPE_URL, said))
        assert known.split([digest_of(b"x")]) == ([digest_of(b"x")], {})
    # Where the first begins later, what is before is asked for alone.
    known = packs_of(with_packs(NONE, [Pack("8000", digest_of(b"pack"))]))
    low, high = Digest("7" * 64, 1), Digest("8" * 64, 1)
    assert known.split([low, high]) == ([low], {digest_of(b"pack").hash: (digest_of(b"pack"), [high])})


def test_a_result_without_packs_says_nothing_of_them() -> None:
    assert attached(with_packs(with_packs(NONE, [Pack("0000", digest_of(b"x"))]), []), TYPE_URL) is None
