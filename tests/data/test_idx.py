import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unnoise.data import idx, load
from unnoise.errors import BadInput

IMAGES = bytes.fromhex("00000803 00000002 00000002 00000003") + bytes(
    range(12)
)  # 2 images of 2 rows and 3 columns, by hand
LABELS = bytes.fromhex("00000801 00000003 070009")


def test_written_by_hand():
    x = idx.parse(IMAGES, "x", 3)
    assert x.dtype == np.uint8 and x.flags.writeable
    assert x.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert idx.parse(LABELS, "y", 1).tolist() == [7, 0, 9]
    assert idx.pack(x) == IMAGES


def test_real_digits_round_trip():
    x = load("digits8").x[..., 0]
    assert np.array_equal(idx.parse(idx.pack(x), "digits", 3), x)


@pytest.mark.parametrize("cut", range(len(IMAGES)))
def test_every_truncation_is_named(cut):
    with pytest.raises(BadInput, match=r"^my-file: ") as error:
        idx.parse(IMAGES[:cut], "my-file", 3)
    assert "\n" not in str(error.value)


@given(st.integers(0, 8 * 16 - 1))
def test_every_flipped_bit_of_the_header_is_noticed(bit):
    broken = bytearray(IMAGES)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadInput, match="my-file"):
        idx.parse(bytes(broken), "my-file", 3)


@pytest.mark.parametrize(
    "raw, ndim",
    [
        (IMAGES, 1),
        (LABELS, 3),
        (b"\x1f\x8b\x08\x00" + IMAGES, 3),
        (bytes.fromhex("00000d03") + IMAGES[4:], 3),
    ],
)
def test_wrong_magic_says_what_was_expected(raw, ndim):
    with pytest.raises(BadInput, match=rf"starts with {raw[:4].hex()}, expected 0000080{ndim}"):
        idx.parse(raw, "x", ndim)


def test_trailing_bytes_and_sizes_beyond_64_bits():
    with pytest.raises(BadInput, match=r"29 bytes, but its header \(2, 2, 3\) promises 28"):
        idx.parse(IMAGES + b"!", "x", 3)
    with pytest.raises(BadInput, match="promises"):
        idx.parse(IMAGES[:4] + b"\xff" * 12 + IMAGES[16:], "x", 3)
