"""Makes the options of ``hetsyn serve`` from the fields of ``Settings``, and refuses removed ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import typer

from service.settings import (
    AccessSettings,
    Batching,
    Limits,
    Option,
    Retention,
    Settings,
    StoreSettings,
    is_origin,
)

PANELS = {
    Limits: "Limits", Retention: "Retention", Batching: "Batching", StoreSettings: "Store", AccessSettings: "Access",
}  # fmt: skip
SIZE_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ALWAYS = "leave it out: that is always"
REMOVED = {
    "--workers": "hetsyn serve is one process, without --workers (HETSYN_WORKERS): to use more cores, run several "
    "processes with one store behind the shipped HAProxy, as docker compose up --scale api=N does",
    "--webhook-url": "leave --webhook-url (HETSYN_WEBHOOK_URL) out: hetsyn_sessions_dropped_total counts the sessions "
    "that the server drops, and with --log-format json each has a line",
    "--model-control": "leave --model-control out: clients do not load or unload models; change the folder of models, "
    "which the server reads again",
    "--max-json-bytes": "leave --max-json-bytes out: JSON of /infer has 256 KiB at most; larger input is sent packed, "
    "within --max-body-bytes",
    "--store-dtype": "leave --store-dtype out: stores keep states in full precision, as float32",
    "--store-half": "leave --store-half out: stores keep states in full precision, as float32",
    "--default-model": "leave --default-model out: write the name into the file 'default' in the folder of models",
    "--watch-s": f"{ALWAYS} two seconds: a change of the folder of models is read once it rests",
    "--forms": "leave --forms out: a model has one form, which hetsyn export --form chooses",
    "--grpc-tls-cert": "leave --grpc-tls-cert out: the gRPC port has the certificate of --tls-cert and --tls-key",
    "--grpc-tls-key": "leave --grpc-tls-key out: the gRPC port has the certificate of --tls-cert and --tls-key",
    "--max-upload-bytes": f"{ALWAYS} 256 MiB for all requests and unread replies; --client-share is that of one client",
    "--max-uploads": f"{ALWAYS} bounded by bytes: 256 MiB for all requests and unread replies",
    "--max-unread-bytes": f"{ALWAYS} 256 MiB with requests; --client-share bounds what one client leaves unread",
    "--max-connections": f"{ALWAYS} 8,192, or what ulimit -n allows; a proxy in front may take fewer",
    "--key-share": f"{ALWAYS} half of the server; hetsyn keys add --max-sessions and --requests-per-s give a key less",
    "--header-timeout-s": f"{ALWAYS} 10 s; a proxy in front may allow less",
    "--body-timeout-s": f"{ALWAYS} 30 s; a proxy in front may allow less",
    "--idle-timeout-s": f"{ALWAYS} 90 s; let a balancer close its idle connections sooner",
    "--max-waiting-steps": f"{ALWAYS} 1,000,000 steps; --queue-timeout-s says how long a chunk may wait",
    "--max-chunk-steps": f"{ALWAYS} 20,000; --max-body-bytes bounds the bytes of a chunk",
    "--load-timeout-s": f"{ALWAYS} 60 s; export a smaller model if it takes longer",
    "--max-model-bytes": f"{ALWAYS} 1 GiB; export a smaller model if it has more",
    "--ended-keep-s": f"{ALWAYS} eight minutes, as long as our client may send the last chunk again",
    "--expired-keep-s": f"{ALWAYS} an hour",
    "--sweep-interval-s": f"{ALWAYS} 5 s; --session-idle-s says when a session expires",
    "--first-chunk-idle-s": f"{ALWAYS} 60 s; --max-sessions says how many sessions there may be",
    "--engine-threads": f"{ALWAYS} 2; for more cores, run more processes with one --store",
    "--max-batch": f"{ALWAYS} 64 chunks",
    "--inline-s": f"{ALWAYS} 10 ms",
}
"""Options of earlier versions, and what to do in place of each."""
ENVIRONMENT = {"--workers": "HETSYN_WORKERS", "--webhook-url": "HETSYN_WEBHOOK_URL"}


def option_fields(group: Any = Settings) -> Iterator[tuple[Any, Field[Any], Option]]:
    """Find the fields of settings that are options, with the dataclass that has each."""
    hints = get_type_hints(group)
    for one in fields(group):
        if is_dataclass(hints[one.name]):
            yield from option_fields(hints[one.name])
        elif "option" in one.metadata:
            yield group, one, one.metadata["option"]


def signature() -> Signature:
    """Make the parameters of ``hetsyn serve``: an option for each setting, and a hidden one for each that is gone."""
    found = [_parameter(*each) for each in option_fields()]
    for name in REMOVED:
        kind: Any = bool if name == "--store-half" else str
        gone = typer.Option(name, envvar=ENVIRONMENT.get(name), hidden=True)
        found.append(Parameter(_variable(name), Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, gone]))
    every = typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show all options, and exit.")
    found.append(Parameter("help_all", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, every]))
    return Signature(found)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Make settings of the options, by the names of their parameters.

    Raises:
        typer.BadParameter: an option was removed, or some exclude each other.
    """
    for name, sentence in REMOVED.items():
        if values[_variable(name)] is not None:
            raise typer.BadParameter(sentence, param_hint=name)
    try:
        made: Settings = _made(Settings, values)
    except ValueError as error:
        names = {one.name: _name(one) for _, one, _ in option_fields()}
        text = re.sub(r"\w+", lambda word: names.get(word[0], word[0]) if "_" in word[0] else word[0], str(error))
        raise typer.BadParameter(text) from None
    return made


def _made(group: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(group)
    given: dict[str, Any] = {}
    for one in fields(group):
        if is_dataclass(hints[one.name]):
            given[one.name] = _made(hints[one.name], values)
        elif "option" in one.metadata:
            value = values[_variable(_name(one))]
            given[one.name] = tuple(value or ()) if get_origin(hints[one.name]) is tuple else value
    return group(**given)


def _name(one: Field[Any]) -> str:
    option: Option = one.metadata["option"]
    return f"--{option.name or one.name.replace('_', '-')}"


def _variable(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _parameter(group: Any, one: Field[Any], option: Option) -> Parameter:
    kind = get_type_hints(group)[one.name]
    help_, default = option.help, None if one.default is MISSING else one.default
    more: dict[str, Any] = {"min": option.low, "max": option.high}
    if option.is_size:
        more, default = {"parser": parse_size, "metavar": "SIZE"}, _shown(int(default or 0))
    elif get_origin(kind) is tuple:
        kind, default, more = list[str] | None, None, {"callback": _check_origins}
    elif get_origin(kind) is Literal:
        more = {"metavar": "NAME"}
        help_ = f"{help_} One of {', '.join(get_args(kind))}."
    elif kind is Path:
        kind = Path | None
    name = _name(one)
    declared = typer.Option(
        name,
        envvar=option.environment,
        help=help_,
        hidden=not option.is_usual,
        rich_help_panel=None if option.is_usual else PANELS.get(group),
        **more,
    )
    return Parameter(_variable(name), Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared])


def _show_all(context: typer.Context, value: bool) -> None:
    """Show all options, also those that ``--help`` leaves out."""
    if not value:
        return
    for each in context.command.params:
        if isinstance(each, click.Option | typer.core.TyperOption):
            each.hidden = each.opts[0] in REMOVED
    typer.echo(context.get_help())
    raise typer.Exit


def parse_size(text: str | int) -> int:
    """Read a number of bytes, as 384MiB or 402653184."""
    found = re.fullmatch(r"(\d+) ?(|KiB|MiB|GiB)", str(text))
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no size above 0: write such as 384MiB, or a number of bytes")
    return int(found[1]) * SIZE_UNITS[found[2]]


def _shown(count: int) -> str:
    unit = next(unit for unit, size in reversed(SIZE_UNITS.items()) if count % size == 0)
    return f"{count // SIZE_UNITS[unit]}{unit}"


def _check_origins(origins: list[str] | None) -> list[str]:
    for origin in origins or ():
        if not is_origin(origin):
            raise typer.BadParameter(
                f"{origin!r} is no origin: write such as https://example.org, with no path and no usual port"
            )
    return origins or []
