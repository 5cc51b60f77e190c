"""What is kept as it is, and what is said about it, against a draft on a real disk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from capsula.engine.discreet import BINARY_LIMIT, LIMIT, MOST, Discreet, told
from capsula.vault.vault import Vault

TOKEN = "ghp_R7kQ2mZx9TfLw3Vb8NcYh5JpDs1GaXe4Ku6H"
VALUE = "canary7value7x9"


@pytest.fixture
def draft(tmp_path: Path) -> Discreet:
    vault = Vault(str(tmp_path / "vault"))
    vault.prepare()
    inner = vault.begin("%Y", datetime.now(UTC), "capture")
    return Discreet(inner, str(tmp_path), frozenset([VALUE]), frozenset())


def take(draft: Discreet, tmp_path: Path, content: bytes) -> list[tuple[object, object]]:
    (tmp_path / "f").write_bytes(content)
    draft.take(str(tmp_path / "f"), "f", move=False)
    assert Path(draft.path, "f").read_bytes() == content
    return [(row["line"], row["kind"]) for row in draft.secrets]


def test_of_a_long_text_the_beginning_is_looked_through_and_that_is_noted(
    draft: Discreet, tmp_path: Path
) -> None:
    line = b"0123456789 abcde\n"
    content = TOKEN.encode() + b"\n" + line * (LIMIT // len(line) + 1) + TOKEN.encode()
    assert take(draft, tmp_path, content) == [(1, "GitHub token")]
    assert draft.notes == ["f: only the first 8 MiB were looked through for credentials"]


def test_of_what_is_no_text_less_is_looked_at(draft: Discreet, tmp_path: Path) -> None:
    content = b"\0" + TOKEN.encode() + b"\0" * BINARY_LIMIT + TOKEN.encode()
    assert take(draft, tmp_path, content) == [(None, "GitHub token")]
    assert draft.notes == []


def test_many_places_in_a_file_are_not_all_listed(draft: Discreet, tmp_path: Path) -> None:
    assert len(take(draft, tmp_path, f"{VALUE}\n".encode() * (MOST * 3))) == MOST
    assert draft.notes == [f"f: more than {MOST} places that look like credentials"]


def test_a_directory_is_looked_through_and_no_link_is_followed(draft: Discreet, tmp_path: Path) -> None:
    (tmp_path / "d/deep").mkdir(parents=True)
    (tmp_path / "d/deep/a").write_text(f"\n{VALUE}")
    (tmp_path / "outside").write_text(VALUE)
    (tmp_path / "d/link").symlink_to(tmp_path / "outside")
    draft.take(str(tmp_path / "d"), "d", move=True)
    assert draft.secrets == [
        {"file": "d/deep/a", "line": 2, "kind": "value of a secret variable", "source": "d/deep/a:2"}
    ]


PATCH = f"""\
diff --git a/old name b/old name
--- a/old name\t
+++ b/old name\t
@@ -3,3 +10,3 @@ def f():
 plain
-gone {VALUE}
+came {VALUE}
 stays {TOKEN}
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-{VALUE}
diff --git a/new b/new
new file mode 100644
--- /dev/null
+++ b/new
@@ -0,0 +1,2 @@
+++ b/looks like a header
+{VALUE}
"""


def test_places_in_a_patch_are_named_by_the_changed_file_and_its_line(draft: Discreet) -> None:
    draft.write("x.diff", PATCH.encode())
    assert Path(draft.path, "x.diff").read_text() == PATCH
    assert [(row["line"], row["source"]) for row in draft.secrets] == [
        (6, "old name:4"),
        (7, "old name:11"),
        (8, "old name:12"),
        (14, "gone:1"),
        (21, "new:2"),
    ]


def test_a_changed_file_of_credentials_is_named_whatever_is_in_it(draft: Discreet) -> None:
    header = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-old\n+new\n"
    draft.write("x.diff", (header.format("plain") + header.format("sub/.env") + PATCH).encode())
    assert draft.secrets[-1] == {
        "file": "x.diff", "line": 7, "kind": "file of credentials by its name", "source": "sub/.env",
    }  # fmt: skip
    assert len(draft.secrets) == 6


def test_what_we_write_ourselves_is_hidden(draft: Discreet) -> None:
    draft.write("requirements.txt", f"x @ https://me:{VALUE}@host/x\n".encode())
    draft.write("figure.png", b"\x89PNG\xff\xfe")
    draft.write_json("a.json", {"a": [VALUE]})
    draft.seal("finished", {"command": f"x --token {VALUE}", "notes": [VALUE]})
    assert Path(draft.path, "requirements.txt").read_text() == "x @ https://***@host/x\n"
    assert Path(draft.path, "figure.png").read_bytes() == b"\x89PNG\xff\xfe"
    assert all(VALUE.encode() not in path.read_bytes() for path in Path(draft.path).iterdir())


def test_one_line_is_said() -> None:
    row = {"file": "a", "line": 3, "kind": "GitHub token"}
    assert told([row]) == "kept as it is, and looks like a credential: a:3 (GitHub token)"
    assert told([{**row, "source": "b/a:3"}, row]).endswith(": b/a:3 (GitHub token) and 1 more")
