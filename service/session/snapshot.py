"""A session at one moment, in memory or in a store."""

from __future__ import annotations

from typing import NamedTuple

from service.errors import StateError
from service.session.protocol import Known
from service.session.session import Kept, Session


class Snapshot(NamedTuple):
    """A session at one moment; empty if there was none.

    Attributes:
        revision: the store's; None without a record or a store.
        session: the unpacked session; None if there is none, or if it cannot be used.
        damage: the reason if the record cannot be used, else None.
    """

    revision: int | None = None
    session: Session | None = None
    damage: StateError | None = None

    @property
    def is_empty(self) -> bool:
        return self.session is None and self.damage is None

    @property
    def known(self) -> Known[Kept] | None:
        return self.session.known if self.session else None


ABSENT = Snapshot()
