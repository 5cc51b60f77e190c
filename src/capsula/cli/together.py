"""All modules of a run at once: the wheel holds their compiled code in one file beside the modules themselves, and that
of what speaks to shared stores in a few more.

Some fifty small modules are a pleasure to read and 160 µs each to import, most of it for finding, opening and checking
fifty files: two fifths of what a miss costs. So a wheel also has them together, made by the build for the Python that
built it, and this module finds them there first. What a module imports at its top is known from the build as well and
is made right away, in that order, which leaves out importlib's search for each (another 30 µs). Another Python, an
editable installation or CAPSULA_DEBUG=1 (for those who edit an installed module and wonder, and for tracebacks, as the
file has no line numbers) imports them one by one, which is the same but slower.
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
    from typing import Any

    # Code, whether it is a package, and the modules to be made before it, in order.
    Module = tuple[CodeType, bool, tuple[str, ...]]
else:
    Loader = object

_Module = type(sys)


class Together(Loader):
    """A finder and loader (importlib's protocols) over the content of the files. `elsewhere` names the file, of those
    in `package`, that has a module."""

    def __init__(self, package: str, modules: "dict[str, Module]", elsewhere: dict[str, str]) -> None:
        self.package = package
        self.folder = package.rpartition("/")[0]
        self.modules = modules
        self.elsewhere = elsewhere

    def find_spec(self, name: str, *_: object) -> "ModuleSpec | None":
        if name in self.elsewhere and name not in self.modules:
            self.modules |= _read(self.package, self.elsewhere[name])
        found = self.modules.get(name)
        if found is None:
            return None
        loaded = sys.modules
        for needed in found[2]:
            if needed not in loaded:
                self._make(needed)
        return self._spec(name, found[1])

    def create_module(self, spec: "ModuleSpec") -> None:
        """None stands for the usual kind of module."""

    def exec_module(self, module: "ModuleType") -> None:
        exec(self.modules[module.__name__][0], module.__dict__)

    def _make(self, name: str) -> None:
        """What importlib does for a module that nobody else can be importing at this moment."""
        code, is_package, needed = self.modules[name]
        module = _Module(name)
        module.__spec__ = spec = self._spec(name, is_package)
        module.__loader__ = self
        module.__file__ = spec.origin
        if is_package:
            module.__path__ = [self.folder + "/" + name.replace(".", "/")]
        parent, _, last = name.rpartition(".")
        module.__package__ = name if is_package else parent
        loaded = sys.modules
        loaded[name] = module
        if is_package:  # one that imports its own modules comes after them
            for child in needed:
                if child.startswith(name + "."):
                    setattr(module, child.rpartition(".")[2], loaded[child])
        try:
            exec(code, module.__dict__)
        except BaseException:
            loaded.pop(name, None)
            raise
        if parent in loaded:
            setattr(loaded[parent], last, module)

    def _spec(self, name: str, is_package: bool) -> ModuleSpec:
        place = self.folder + "/" + name.replace(".", "/")
        origin = place + ("/__init__.py" if is_package else ".py")
        spec = ModuleSpec(name, self, origin=origin, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [place]
        return spec


def use() -> None:
    """Have the modules that aren't imported yet come from the files, if there are some for this Python."""
    package = __file__.rpartition("/cli/")[0]
    if posix.environ.get(b"CAPSULA_DEBUG") or any([type(finder) is Together for finder in sys.meta_path]):
        return
    found = _read(package, "")
    if found:
        elsewhere = {name: module for name, module in found.items() if type(module) is str}
        modules = {name: module for name, module in found.items() if type(module) is not str}
        sys.meta_path.insert(0, Together(package, modules, elsewhere))


def _read(package: str, which: str) -> "dict[str, Any]":
    """Empty when there is none of this Python's."""
    try:
        with open(f"{package}/together{which}.{sys.implementation.cache_tag}.bin", "rb", buffering=0) as file:
            content = file.read()
        if content.startswith(MAGIC_NUMBER):
            return marshal.loads(memoryview(content)[len(MAGIC_NUMBER) :])  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError, TypeError):
        pass
    return {}
