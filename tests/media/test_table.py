"""Tables: what is written is read, with its record; what cannot be used is said in one line."""

import csv
import json

import numpy as np
import pytest

from unnoise.errors import BadInput
from unnoise.media import MEDIA, TABLE, of_file, read_record
from unnoise.media.table import Column, Table

PETS = Table((Column("weight"), Column("kind", ("cat", "dog, large", 'the "one"'))))
ROWS = np.array([[4.25, 0], [31.5, 1], [-1e-7, 2]])


def write(path, raw):
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


def test_a_table_is_read_as_it_was_written(tmp_path):
    file = write(tmp_path / "pets.csv", PETS.to_bytes(ROWS, json.dumps({"model": "x", "seeds": [1, 2, 3]})))
    np.testing.assert_array_equal(PETS.read(file), ROWS)
    assert (
        read_record(file) == {"model": "x", "seeds": [1, 2, 3]} and of_file(file) is MEDIA["tables"] is TABLE
    )
    with open(file, newline="") as f:
        next(f)
        assert list(csv.reader(f))[2] == ["31.5", "dog, large"]


def test_columns_in_any_order_and_more_of_them(tmp_path):
    file = write(tmp_path / "a.csv", 'kind,name,weight\ncat,Tom,4\n"dog, large",Rex,30\n\n')
    np.testing.assert_array_equal(PETS.read(file), [[4, 0], [30, 1]])


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("", "holds no table"),
        ("weight\n1\n", "has no column 'kind'"),
        ("weight,kind\nheavy,cat\n", "column 'weight' holds numbers, given 'heavy'"),
        ("weight,kind\n1,cta\n", "did you mean 'cat'"),
        ("weight,kind\n1,cat\n2\n", "row 2 has 1 values, not 2"),
        (b"\xff\xfe\x00w", "UTF-8"),
    ],
)
def test_what_is_no_such_table(raw, told, tmp_path):
    with pytest.raises(BadInput) as e:
        PETS.read(write(tmp_path / "a.csv", raw))
    assert told in str(e.value) and "\n" not in str(e.value)


def test_no_record(tmp_path):
    for raw in ("weight,kind\n1,cat\n", "", "# unnoise {"):
        with pytest.raises(BadInput):
            read_record(write(tmp_path / "a.csv", raw))
    with pytest.raises(BadInput, match="no table at"):
        read_record(tmp_path / "none.csv")


def test_masks_are_of_whole_cells():
    mask = PETS.mask(["kind"], ROWS)
    assert mask.tolist() == [[0, 1]] * 3
    np.testing.assert_array_equal(PETS.keep(ROWS, ROWS + 1, mask), ROWS + np.array([0, 1]))
    with pytest.raises(BadInput, match="did you mean 'weight'"):
        PETS.mask(["wieght"], ROWS)


def test_a_row_has_no_picture_a_table_has_one():
    two = Table((Column("x"), Column("y"), Column("kind", ("a", "b"))))
    rows = np.array([[0.0, 0.0, 0], [1.0, 1.0, 1]])
    with pytest.raises(BadInput, match="a row has no picture"):
        two.show(rows[0])
    a = np.asarray(two.sheet(rows))
    assert a.shape == (256, 256, 3) and (a != 255).any(2).sum() == 2
    with pytest.raises(BadInput, match="two columns of numbers"):
        PETS.sheet(ROWS)
