"""One recorded cell of a notebook: its source, what it prints, displays and gives, and how it ended."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from typing import Any

from capsula.api.call import project_of
from capsula.api.lifetime import Hide, Lifetime
from capsula.engine.recording import Recorder
from capsula.execute.values import cut, represent

# So much of each stream is kept, so many displays, and so many bytes of an image.
STREAM, DISPLAYS, IMAGES = 16 << 20, 100, 8 << 20
# So much of a stream stands in post-run-info.json itself.
SHOWN = 1 << 20
_SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg", "application/pdf": "pdf"}


class Cell:
    """From before it runs until `end`. `shell` is an InteractiveShell of IPython."""

    def __init__(
        self,
        shell: Any,
        source: str,
        *,
        name: str = "",
        items: tuple[str, ...] = (),
        directory: str | None = None,
        cell_id: str | None = None,
    ) -> None:
        facts = {
            "source_sha256": hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
            "cell_id": cell_id,
        }

        def before(hide: Hide) -> dict[str, Any]:
            return {"cell_name": hide(name), "cell": hide(source), **facts}

        self._life = Lifetime("cell", lambda: project_of(directory, None), items, before)
        lines = [line.strip() for line in source.splitlines() if line.strip()]
        self._life.command = name or cut(lines[0] if lines else "", 200)
        self.path = self._life.live.path
        self._streams = {name: Heard(getattr(sys, name, None), "write") for name in ("stdout", "stderr")}
        self._displays = Heard(getattr(shell, "display_pub", None), "publish")

    def end(
        self, result: Any, error: BaseException | None, *, count: int | None = None, status: str | None = None
    ) -> None:
        """`count` is the number that the cell has in the history."""
        for heard in (*self._streams.values(), self._displays):
            heard.stop()
        recorder = self._life.recorder
        self._life.end(
            self._life.command,
            error,
            lambda hide: {**self._told(result, error, hide, recorder), "execution_count": count},
            status,
        )

    def _told(
        self, result: Any, error: BaseException | None, hide: Hide, recorder: Recorder | None
    ) -> dict[str, Any]:
        told: dict[str, Any] = {"return_value": represent(result, hide) if error is None else None}
        for name, heard in self._streams.items():
            told[name] = _log(name, heard, hide, recorder)
        told["displays"] = [_display(data, hide, recorder) for data in _published(self._displays)]
        return told


class Heard:
    """What goes through a method of an object that others use, too: it is called as before, and listened to. The object
    stays the same one, so that nothing which holds it is left with another."""

    def __init__(self, thing: Any, name: str) -> None:
        self.said: list[Any] = []
        self.left_out = 0
        self._room = STREAM if name == "write" else DISPLAYS
        self._thing = thing
        self._name = name
        self._method: Callable[..., Any] | None = None
        original = getattr(thing, name, None)
        if original is None:
            return

        def method(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            self._hear(args, kwargs)
            return answer

        try:
            self._before = vars(thing).get(name)
            setattr(thing, name, method)
            self._method = method
        except Exception:  # an object that takes no attributes: then it isn't heard
            return

    def stop(self) -> None:
        """A method that somebody else has put there meanwhile stays."""
        if self._method is None or vars(self._thing).get(self._name) is not self._method:
            return
        if self._before is None:
            delattr(self._thing, self._name)
        else:
            setattr(self._thing, self._name, self._before)

    def _hear(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            what: Any = args[0] if args else kwargs["data"]
            size = len(what) if self._name == "write" else 1
            if size > self._room:
                self.left_out += size
                return
            self._room -= size
            self.said.append(what)
        except Exception:  # what isn't text was refused by the stream itself
            return


def _log(name: str, heard: Heard, hide: Hide, recorder: Recorder | None) -> str:
    text = hide("".join(piece for piece in heard.said if isinstance(piece, str)))
    if recorder is not None and heard.left_out:
        recorder.notes.append(f"{name}: {heard.left_out} more characters were printed")
    if recorder is not None and recorder.draft is not None and text:
        with recorder.attempt(f"can't keep {name}"):
            recorder.draft.write(f"{name}.txt", text.encode("utf-8", "backslashreplace"))
    return cut(text, SHOWN)


def _published(heard: Heard) -> list[dict[str, Any]]:
    return [data for data in heard.said if isinstance(data, dict)]


def _display(data: dict[str, Any], hide: Hide, recorder: Recorder | None) -> dict[str, Any]:
    """Images become files of the capsule; of anything else the text is told."""
    text = data.get("text/plain")
    files = []
    for kind, suffix in _SUFFIXES.items():
        if kind in data and recorder is not None and recorder.draft is not None:
            with recorder.attempt("can't keep what was displayed"):
                content = _bytes(data[kind], is_text=kind.endswith("xml"))
                if len(content) <= IMAGES:
                    name = recorder.draft.free_name(f"display.{suffix}")
                    recorder.draft.write(name, content)
                    files.append(name)
    return {
        "text": cut(hide(text)) if isinstance(text, str) else None,
        "mime_types": [str(kind) for kind in data],
        "files": files,
    }


def _bytes(content: Any, *, is_text: bool) -> bytes:
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    return content.encode() if is_text else base64.b64decode(content)
