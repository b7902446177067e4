"""The command line: mounts each room's commands lazily, so that ``mlip --help`` stays instant."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import mlip
from mlip.errors import MLIPError
from mlip.memory import keep_freed_memory
from mlip.threads import wait_passively

# command → (module, attribute, one line of help). The module is imported only when the command runs.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "mlip.demo_cli",
        "demo",
        "The main job end to end on the embedded silicon set, with figures.",
    ),
    "init": (
        "mlip.training.init_cli",
        "init",
        "Write a configuration from what a data set holds, with a forecast of its cost.",
    ),
    "train": (
        "mlip.training.cli",
        "train",
        "Train a potential from a YAML file or a named recipe.",
    ),
    "evaluate": (
        "mlip.training.cli",
        "evaluate",
        "Errors of a model on labelled frames, per type, with parity plots.",
    ),
    "schema": ("mlip.training.init_cli", "schema", "The settings of a training run as JSON schema, for editors."),
    "info": ("mlip.cli", "info", "What a model is, what it was trained on, how good it is."),
    "convert": ("mlip.convert.cli", "convert", "Models of other packages (NequIP) as model files of this one."),
    "data": ("mlip.datasets.cli", "data", "Inspect, convert and split labelled structures."),
    "check": (
        "mlip.md.cli",
        "check",
        "Physical checks of a model or calculator, with pass or fail.",
    ),
    "relax": ("mlip.md.cli", "relax", "Relax atoms and cell; ends with minimum or saddle."),
    "md": ("mlip.md.cli", "md", "Molecular dynamics: NVE, Langevin, Bussi, Nosé-Hoover, NPT."),
    "phonons": (
        "mlip.md.phonon_cli",
        "phonons",
        "Phonon bands, density of states and thermal properties.",
    ),
    "vibrations": (
        "mlip.md.vibrations_cli",
        "vibrations",
        "Vibrations of molecules: symmetry, thermochemistry, animated modes.",
    ),
    "elastic": ("mlip.md.elastic_cli", "elastic", "Elastic constants, moduli, sound and Debye temperature."),
    "eos": ("mlip.md.elastic_cli", "eos", "Equation of state: volume, bulk modulus and its derivative."),
    "qha": ("mlip.md.elastic_cli", "qha", "Thermal expansion in the quasi-harmonic approximation."),
    "merge": ("mlip.md.merge_cli", "merge", "Merge the results of --shards; refuses duplicates and holes."),
    "symmetry": (
        "mlip.md.symmetry_cli",
        "symmetry",
        "Domain variants, distorted phases, and what breaks a symmetry.",
    ),
}
# Commands of a group that another room holds: group → command → (module, attribute).
MEMBERS: dict[str, dict[str, tuple[str, str]]] = {
    "symmetry": {
        "report": ("mlip.training.anisotropy_cli", "report"),
        "shuffle": ("mlip.training.anisotropy_cli", "shuffle"),
    },
}


class LazyGroup(TyperGroup):
    """A command group that imports a command's module when the command is asked for."""

    _only_names = False

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import and build one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, text = COMMANDS[cmd_name]
        if self._only_names:
            return TyperCommand(cmd_name, help=text)
        target = getattr(import_module(module), attribute)
        if isinstance(target, typer.Typer):
            for name, (place, function) in MEMBERS.get(cmd_name, {}).items():
                if all(known.name != name for known in target.registered_commands):
                    target.command(name)(getattr(import_module(place), function))
            return typer.main.get_command(target)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name=cmd_name)(target)
        return typer.main.get_command(single)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the names of commands from the table, without importing anything."""
        self._only_names = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._only_names = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List the commands from the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlip {mlip.__version__}")
        raise typer.Exit


@app.callback()
def cli(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Interatomic potentials that keep every symmetry, and say which ones the data break."""


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Warnings for users in one line, as errors are, without the line of somebody's code that gave them."""
    usual = warnings.formatwarning

    def short(message: Warning | str, category: type[Warning], *place: Any, **where: Any) -> str:
        return f"warning: {message}\n" if category is UserWarning else usual(message, category, *place, **where)

    warnings.formatwarning = short
    try:
        yield
    finally:
        warnings.formatwarning = usual


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 when done and every check passed, 1 when a check failed, 2 on bad input or usage.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    keep_freed_memory()
    wait_passively()
    try:
        with _short_warnings():
            app(args=[a for a in arguments if a != "--debug"], prog_name="mlip")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except MLIPError as error:
        if "--debug" in arguments:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
