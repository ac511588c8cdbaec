"""Makes binseg's encoders known to segmentation-models-pytorch (smp), whichever is imported first.

smp takes seconds to import and pulls in torch, so `import binseg` must not import it. If smp is
there already, its table of encoders is filled at once. If not, a finder waits in `sys.meta_path`
for the one module that holds the table, and fills it when that has run. All other imports cost it
one comparison of strings. Where smp is not installed, nothing is left behind.
"""

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_SMP = "segmentation_models_pytorch"
_TABLE = f"{_SMP}.encoders"


class EncoderFinder:
    """Finds smp's module of encoders where the other finders do, and adds ours after it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TABLE:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, EncoderFinder) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return _registering(spec)
        return None


def install() -> None:
    """Register the encoders now, or as soon as smp is imported, and again if it is reloaded."""
    loaded = sys.modules.get(_TABLE)
    if loaded is not None:
        _register(loaded)
    elif importlib.util.find_spec(_SMP) is None:
        return
    if not any(isinstance(finder, EncoderFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, EncoderFinder())


def _registering(spec: ModuleSpec) -> ModuleSpec:
    """The same spec, whose loader, made for this import alone, registers after the module ran."""
    loader = spec.loader
    if loader is not None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _register(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


def _register(table: ModuleType) -> None:
    try:
        from binseg.nn.smp_table import register_encoders

        register_encoders(table.encoders)
    except (ImportError, AttributeError) as error:
        # an smp of another make must stay usable without us
        warnings.warn(f"binseg's encoders are missing in {_SMP}: {error}", stacklevel=2)
