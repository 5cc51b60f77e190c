"""All modules of a run at once: the wheel holds their compiled code in one file beside the modules themselves.

Some fifty small modules are a pleasure to read and 160 µs each to import, most of it for finding, opening and checking
fifty files: two fifths of what a miss costs. So a wheel also has them together, made by the build for the Python that
built it, and this module finds them there first. Another Python, an editable installation or CAPSULA_DEBUG=1 (for those
who edit an installed module and wonder) imports them one by one, which is the same but slower.
"""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.abc import Loader
    from types import CodeType, ModuleType
else:
    Loader = object


class Together(Loader):
    """A finder and loader (importlib's protocols) over the file's content: name -> (code, whether it is a package)."""

    def __init__(self, folder: str, modules: "dict[str, tuple[CodeType, bool]]") -> None:
        self.folder = folder
        self.modules = modules

    def find_spec(self, name: str, *_: object) -> "ModuleSpec | None":
        found = self.modules.get(name)
        if found is None:
            return None
        place = self.folder + "/" + name.replace(".", "/")
        spec = ModuleSpec(
            name, self, origin=place + ("/__init__.py" if found[1] else ".py"), is_package=found[1]
        )
        spec.has_location = True
        if found[1]:
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """None stands for the usual kind of module."""

    def exec_module(self, module: "ModuleType") -> None:
        exec(self.modules[module.__name__][0], module.__dict__)


def use() -> None:
    """Have the modules that aren't imported yet come from the one file, if there is one for this Python."""
    package = __file__.rpartition("/cli/")[0]
    if posix.environ.get(b"CAPSULA_DEBUG") or any([type(finder) is Together for finder in sys.meta_path]):
        return
    try:
        with open(f"{package}/together.{sys.implementation.cache_tag}.bin", "rb", buffering=0) as file:
            content = file.read()
        if content.startswith(MAGIC_NUMBER):
            modules = marshal.loads(memoryview(content)[len(MAGIC_NUMBER) :])
            sys.meta_path.insert(0, Together(package.rpartition("/")[0], modules))
    except (OSError, ValueError, EOFError, TypeError):
        return
