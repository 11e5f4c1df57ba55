"""ICC profiles written by hand (ICC.1:2001-04), as test pictures need other ones than Pillow can make."""

import struct

ADOBE = (
    (0.60974, 0.31111, 0.01947),
    (0.20528, 0.62567, 0.06087),
    (0.14919, 0.06322, 0.74457),
)  # red, green and blue as XYZ under D50
D50 = (0.9642, 1.0, 0.8249)


def rgb(primaries=ADOBE, gamma=2.19921875, name="by hand") -> bytes:
    """A display profile of three primaries (XYZ under D50) and one gamma: by default Adobe RGB (1998)."""
    tags = {
        b"rXYZ": _xyz(primaries[0]),
        b"gXYZ": _xyz(primaries[1]),
        b"bXYZ": _xyz(primaries[2]),
        b"wtpt": _xyz(D50),
    }
    return _profile(
        b"mntr", b"RGB ", b"XYZ ", {**tags, **{k: _curve(gamma) for k in (b"rTRC", b"gTRC", b"bTRC")}}, name
    )


def grey(gamma: float, name="by hand") -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma), b"wtpt": _xyz(D50)}, name)


def cmyk(paper: float = 0.9) -> bytes:
    """A printer: L falls in proportion to the ink of K alone, from `paper`; cyan, magenta and yellow print
    nothing.
    """
    corners = [
        (int(255 * paper * (1 - k)), 128, 128) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    ]
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = (
        b"mft1"
        + bytes(4)
        + bytes((4, 3, 2, 0))
        + matrix
        + ramp * 4
        + bytes(v for corner in corners for v in corner)
        + ramp * 3
    )
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut, b"wtpt": _xyz(D50)}, "printer")


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    told = name.encode()
    about = b"desc" + bytes(4) + struct.pack(">I", len(told) + 1) + told + b"\0" + bytes(8) + bytes(70)
    tags = {b"desc": about, b"cprt": b"text" + bytes(4) + b"none\0", **tags}
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, value in tags.items():
        table += key + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = (
        bytes(8)
        + struct.pack(">I", 0x02200000)
        + kind
        + space
        + pcs
        + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
        + b"acsp"
        + bytes(28)
    )
    head = (head + struct.pack(">3i", *(round(v * 65536) for v in D50))).ljust(128, b"\0")
    whole = head + table + body
    return struct.pack(">I", len(whole)) + whole[4:]
