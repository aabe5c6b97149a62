"""Exports trained networks as artifact folders that a server reads, and verifies them.

A name is imported when it is used, so that ``hetsyn export --help`` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetsyn_model.lazy import lazy_names

if TYPE_CHECKING:
    from export.folder import ExportError
    from export.nir.importing import import_nir
    from export.nir.writing import export_nir
    from export.onnx_models.importing import import_onnx
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

_MODULES = {
    ".folder": ("ExportError",),
    ".nir.importing": ("import_nir",),
    ".nir.writing": ("export_nir",),
    ".onnx_models.importing": ("import_onnx",),
    ".own_network": ("export_network",),
    ".step": ("export_step",),
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
