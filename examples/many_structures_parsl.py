"""Phonons of many structures with Parsl, on a laptop or on SLURM: `pip install parsl`, then for example

python examples/many_structures_parsl.py laptop all 4 -- --calculator ase.calculators.emt:EMT a.cif b.cif c.cif
python examples/many_structures_parsl.py slurm all 32 -- model.mlip crystals/*.cif

Arguments: where, the folder, the number of shards, and after `--` what `mlip phonons` gets. Run it again after a
crash or a time limit: finished structures are kept. Adapt partition and walltime of the second configuration.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import parsl
from parsl.app.app import bash_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider, SlurmProvider

# Parsl starts its own programs by name: they lie beside the Python that runs this, activated or not.
HERE = Path(sys.executable).parent
BEGIN = f"export OMP_NUM_THREADS=1 PATH={shlex.quote(str(HERE))}:$PATH"
LAPTOP = LocalProvider(init_blocks=1, max_blocks=1, worker_init=BEGIN)
SLURM = SlurmProvider(
    partition="cpu", nodes_per_block=1, cores_per_node=16, max_blocks=4, walltime="04:00:00", exclusive=False,
    worker_init=BEGIN,
)  # fmt: skip
PROVIDERS = {"laptop": LAPTOP, "slurm": SLURM}


def command(program: str, arguments: str, folder: str, shards: int, index: int) -> str:
    """One part of the list, resumed if it was begun; a failed check (1) is a result, bad input (2) is not."""
    where = f"--out {shlex.quote(folder)} --shards {shards} --shard-index {index} --resume"
    return f"{program} phonons {arguments} {where} || test $? -eq 1"


@bash_app
def shard(line: str, stdout: str, stderr: str) -> str:  # noqa: ARG001
    """A command line as a task of Parsl."""
    return line


def main() -> None:
    """Start the shards, wait for all, merge."""
    where, folder, count, _, *arguments = sys.argv[1:]
    executor = HighThroughputExecutor(label="mlip", cores_per_worker=1, provider=PROVIDERS[where])
    shards, program, options = int(count), f"{shlex.quote(sys.executable)} -m mlip", shlex.join(arguments)
    os.environ["PATH"] = f"{HERE}{os.pathsep}{os.environ['PATH']}"
    with parsl.load(Config(executors=[executor], run_dir=f"{folder}-parsl")):
        jobs = []
        for i in range(shards):
            log = f"{Path(folder).resolve()}-parsl/{i}"
            line = command(program, options, folder, shards, i)
            jobs.append(shard(line, stdout=f"{log}.out", stderr=f"{log}.err"))
        for job in jobs:
            job.result()
    subprocess.run([sys.executable, "-m", "mlip", "merge", folder, "--force"], check=True)


if __name__ == "__main__":
    main()
