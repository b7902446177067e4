"""A reference file is data: nothing in it may run."""

import pytest

from mlip.errors import InputError
from mlip.md import read_reference

HEAD = "supercell_matrix: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]\nforce_constants:\n"


def test_a_tag_is_refused_before_anything_reads_it(tmp_path):
    path, mark = tmp_path / "phonopy.yaml", tmp_path / "ran"
    path.write_text(
        f"{HEAD}  x: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]\n"
    )
    with pytest.raises(InputError, match="tags"):
        read_reference(path)
    assert not mark.exists()


def test_broken_yaml_is_one_line(tmp_path):
    path = tmp_path / "phonopy.yaml"
    path.write_text(f"{HEAD}  - [1, 2\n  : }}\n")
    with pytest.raises(InputError, match="YAML"):
        read_reference(path)


def test_published_files_still_load(data_folder):
    assert read_reference(data_folder / "perovskites/BaTiO3_mp-2998_phonopy.yaml.xz").solve is not None
