"""A session between two chunks, as a value: what is stored, moved and kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

from service.contract.manifest import FormName
from service.engine.stream import StreamState
from service.errors import ModelMismatch
from service.models.model import Model
from service.session.protocol import Known
from service.wire.schema import Envelope, Reply


@dataclass(frozen=True, slots=True)
class Session:
    """A session once its first chunk was applied. stream: None once it has ended or was dropped."""

    model: Model
    form: FormName
    known: Known[Reply]
    stream: StreamState | None

    def check_model(self, asked: Envelope) -> None:
        """
        Raises:
            ModelMismatch: the request names another model, version or form than the session's.
        """
        if asked.model is asked.version is asked.form is None:
            return
        for what, have, want in (
            ("model", self.model.name, asked.model),
            ("version", self.model.version, asked.version),
            ("form", self.form, asked.form),
        ):
            if want is not None and want != have:
                raise ModelMismatch(f"the session runs on {what} {have!r}, not {want!r}: name that one, or none")
