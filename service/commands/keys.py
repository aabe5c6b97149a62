"""``hetsyn keys``: makes and changes the keys file of ``hetsyn serve --keys``."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from service.errors import InputError, NotFound
from service.keys.caller import Scope
from service.keys.credential import Token
from service.keys.document import (
    KeyEntry,
    KeyLimits,
    KeysDocument,
    SecretEntry,
    changing,
    read_document,
    utc_now,
    write_document,
)

keys = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help="Make and change the keys file."
)
FileOption = Annotated[
    Path, typer.Option("--file", envvar="HETSYN_KEYS", help="The keys file, that of hetsyn serve --keys.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")]
DEFAULT_FILE = Path("keys.json")
REMOVED_SCOPES = {
    "state": "'state' is part of 'infer': take that",
    "admin": "'admin' opens nothing any more: leave it out, and change the folder of models",
}
RemovedOption = Annotated[str | None, typer.Option(hidden=True)]


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise typer.BadParameter(
            REMOVED_SCOPES.get(text, f"{text!r} is no scope: take one of {', '.join(Scope)}")
        ) from None


@keys.command()
def add(
    name: NameArgument,
    file: FileOption = DEFAULT_FILE,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(parser=_scope, metavar="infer|metrics", help="What it may do; can be repeated. Default: infer."),
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(min=0.001, help="Days after which it is refused. Default: never.")
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="The most open sessions. Default: half of the server's.")
    ] = None,
    requests_per_s: Annotated[
        float | None,
        typer.Option(min=0.001, help="The most requests and chunks of streams a second. Default: any number."),
    ] = None,
    tenant: RemovedOption = None,
    max_session_bytes: RemovedOption = None,
    max_streams: RemovedOption = None,
    bytes_per_s: RemovedOption = None,
) -> None:
    """Add a key, and print it: this is the only time that anybody can read it."""
    for option, value, instead in (
        ("tenant", tenant, "put it into the key's name"),
        ("max-session-bytes", max_session_bytes, "take --max-sessions"),
        ("max-streams", max_streams, "take --max-sessions"),
        ("bytes-per-s", bytes_per_s, "take --requests-per-s"),
    ):
        if value is not None:
            raise typer.BadParameter(f"leave --{option} out: it has no effect any more; {instead}")
    now, token = utc_now(), Token.new()
    with changing(file) as document:
        if document.find(name) is not None:
            raise InputError(
                f"{file} has a key {name!r}: choose another name, or give it a new secret with hetsyn keys rotate"
            )
        try:
            entry = KeyEntry(
                name=name,
                scopes=tuple(scope or (Scope.infer,)),
                limits=KeyLimits(max_sessions=max_sessions, requests_per_s=requests_per_s),
                secrets=(SecretEntry.of(token, now),),
                expires_at=None if expires_days is None else now + timedelta(days=expires_days),
            )
        except ValidationError:
            raise InputError(
                f"{name!r} is no name: take up to 63 of a-z, 0-9 and -, with a letter or digit first"
            ) from None
        write_document(file, document.replaced(entry))
    typer.echo(token.text)


@keys.command("list")
def list_keys(
    file: FileOption = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the keys as JSON.")] = False,
) -> None:
    """List the keys, without secrets and hashes."""
    document = read_document(file)
    if as_json:
        hidden = {"secrets": {"__all__": {"salt", "hash"}}}
        typer.echo(json.dumps([key.model_dump(mode="json", exclude=hidden) for key in document.keys], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "scopes", "limits", "secrets"):
        table.add_column(heading, overflow="fold")
    for key in document.keys:
        limits = ", ".join(f"{limit} {value:g}" for limit, value in key.limits if value is not None)
        table.add_row(key.name, ", ".join(key.scopes), limits or "none", _secrets(key, utc_now()))
    Console(markup=False, highlight=False).print(table)


@keys.command()
def rotate(
    name: NameArgument,
    file: FileOption = DEFAULT_FILE,
    overlap_h: Annotated[
        float, typer.Option(min=0, help="Hours for which the older secrets are still taken; 0: not at all.")
    ] = 24.0,
) -> None:
    """Give a key a new secret, and print it. Its sessions go on."""
    now, token = utc_now(), Token.new()
    with changing(file) as document:
        key = _existing(document, name, file)
        ends = now + timedelta(hours=overlap_h)
        before = [
            secret.model_copy(update={"expires_at": min(ends, secret.expires_at or ends)})
            for secret in key.secrets
            if secret.expires_at is None or secret.expires_at > now
        ]
        secrets = (*(before if overlap_h else ()), SecretEntry.of(token, now))
        write_document(file, document.replaced(key.model_copy(update={"secrets": secrets})))
    typer.echo(token.text)


@keys.command()
def revoke(name: NameArgument, file: FileOption = DEFAULT_FILE) -> None:
    """Take all secrets of a key away. Its name stays taken, because its sessions may be there still."""
    with changing(file) as document:
        key = _existing(document, name, file)
        write_document(file, document.replaced(key.model_copy(update={"secrets": ()})))
    typer.echo(f"{name} opens nothing any more; hetsyn keys rotate {name} gives it a secret again")


def _existing(document: KeysDocument, name: str, file: Path) -> KeyEntry:
    key = document.find(name)
    if key is None:
        raise NotFound(f"{file} has no key {name!r}: hetsyn keys list shows those that it has")
    return key


def _secrets(key: KeyEntry, now: datetime) -> str:
    """Describe the secrets of a key by their public ids."""
    if not key.secrets:
        return "revoked"
    words = []
    for secret in key.secrets:
        ends = min((at for at in (secret.expires_at, key.expires_at) if at is not None), default=None)
        if ends is None:
            words.append(secret.id)
        else:
            words.append(f"{secret.id} ({'expired' if ends <= now else 'expires'} {ends:%Y-%m-%d %H:%M} UTC)")
    return ", ".join(words)
