"""Say whether the operator is built and usable."""

from __future__ import annotations

import sys

from service.errors import HetsynError
from service.runtime.onnx import operator_status

if __name__ == "__main__":
    try:
        print(operator_status().sentence)
    except HetsynError as error:
        sys.exit(f"hetsyn: {error}")
