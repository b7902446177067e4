"""Coverage-guided fuzzing of what reads foreign files; no part of the tests: it needs time and `pip install atheris`.

    python tests/hostile/coverage_fuzz.py settings -max_total_time=600
    python tests/hostile/coverage_fuzz.py frames -max_total_time=600
    python tests/hostile/coverage_fuzz.py model -max_total_time=600

Every input is taken or refused by an `InputError` of one line; anything else ends the run, and libFuzzer writes the
input to a file ``crash-…``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mlip"], enable_loader_override=False):
    from mlip import InputError, Potential
    from mlip.datasets import read_frames
    from mlip.training.load import load_settings

FOLDER = Path(tempfile.mkdtemp())
LONGEST = 800
SETTINGS = (
    b"seed: 1\nmodel: {preset: small, cutoff: 5.0}\ndata: {train: a.xyz, validation: 0.1}\nloss: [{target: forces}]\n"
)
FRAMES = b'2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 pbc="F F F"\nH 0 0 0 0 0 1\nO 0 0 1 0 0 -1\n'


def settings(data: bytes) -> None:
    """A settings file."""
    load_settings(_file("settings.yaml", data))


def frames(data: bytes) -> None:
    """An extended xyz file."""
    list(read_frames(str(_file("frames.xyz", data))))


def model(data: bytes) -> None:
    """A model file."""
    Potential.load(_file("model.mlip", data))


def _file(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def small_model() -> bytes:
    """A good model file to start from."""
    config = {"cutoff": 3.0, "num_layers": 1, "num_channels": 2, "lmax": 1, "num_radial": 2, "radial_width": 2}
    Potential.from_config(config, ["O", "Si"]).save(FOLDER / "good.mlip")
    return (FOLDER / "good.mlip").read_bytes()


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], bytes]]] = {
    "settings": (settings, lambda: SETTINGS),
    "frames": (frames, lambda: FRAMES),
    "model": (model, small_model),
}


def refused_in_one_line(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The property that is tested."""

    def one(data: bytes) -> None:
        try:
            target(data)
        except InputError as error:
            message = str(error)
            if "\n" in message or len(message) > LONGEST:
                raise RuntimeError(f"not one short line: {message!r}") from None

    return one


def main() -> None:
    """Fuzz one reader, from a good file on."""
    target, seed = TARGETS[sys.argv.pop(1)]
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    (corpus / "good").write_bytes(seed())
    atheris.Setup([*sys.argv, str(corpus)], refused_in_one_line(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
