"""Export: a trained network becomes an artifact folder that a server can read, verified on the way.

A name is imported when it is used, so that ``hetsyn export --help`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.folder import ExportError
    from export.nir.importing import import_nir
    from export.nir.writing import export_nir
    from export.onnx_import import import_onnx
    from export.own_network import export_network
    from export.step import export_step

__all__ = [
    "ExportError",
    "export_network",
    "export_nir",
    "export_step",
    "import_nir",
    "import_onnx",
]

_MODULE_OF = {
    "ExportError": "export.folder",
    "export_network": "export.own_network",
    "export_nir": "export.nir.writing",
    "export_step": "export.step",
    "import_nir": "export.nir.importing",
    "import_onnx": "export.onnx_import",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
