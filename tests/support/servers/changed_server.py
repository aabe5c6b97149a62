"""``hetsyn`` with what a test changes: ``python changed_server.py serve ... --set=FIELD=VALUE``.

FIELD is one of ``Settings`` or of a group in it, for which there is no option. This runs in the environment of any
checkout, so it imports nothing of the tests.
"""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass, replace
from typing import Any

SET = "--set="


def changed(group: Any, name: str, text: str) -> Any:
    """Settings with another value of one field.

    Raises:
        SystemExit: there is no such field.
    """
    if name in (names := [one.name for one in fields(group)]):
        return replace(group, **{name: type(getattr(group, name))(float(text))})
    for inner in names:
        part = getattr(group, inner)
        if is_dataclass(part) and name in (one.name for one in fields(part)):
            return replace(group, **{inner: changed(part, name, text)})
    raise SystemExit(f"there is no setting {name}")


def main() -> None:
    """Run ``hetsyn`` with the changes."""
    values = [word.removeprefix(SET).partition("=") for word in sys.argv if word.startswith(SET)]
    sys.argv = ["hetsyn", *(word for word in sys.argv[1:] if not word.startswith(SET))]
    from hetsyn import main as run_hetsyn

    if values:
        from service.commands import process

        run = process.run_process

        def run_changed(settings: Any, **more: Any) -> int:
            for name, _, text in values:
                settings = changed(settings, name, text)
            return run(settings, **more)

        process.run_process = run_changed
    run_hetsyn()


if __name__ == "__main__":
    main()
