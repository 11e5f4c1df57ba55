"""Writes digits8.csv from scikit-learn's copy of the UCI digits: the one file here, besides compare.py, that
needs a package.
"""

from __future__ import annotations

from pathlib import Path

EACH = 50  # of each digit: the first ones in the order of the file


def text() -> str:
    """A line a digit: its label and its 64 pixels, 0 … 16, row by row from the top."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    lines, seen = [], [0] * 10
    for row, label in zip(pixels.astype(int).tolist(), labels.tolist()):
        seen[label] += 1
        if seen[label] <= EACH:
            lines.append(",".join(map(str, [label, *row])))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "digits8.csv").write_text(text(), encoding="ascii")
