"""The further names of every concept, in CLDR and other sets: `python recipes/default/names.py` writes
src/unnoise/worlds/emoji/names.json.

Needs the texts that `unnoise data fetch emoji` leaves in the cache. Emojibase and emojilib are MIT, CLDR is
under the Unicode License v3.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from unnoise.data.emoji import load_emoji, path
from unnoise.data.nouns import NOUNS, plain
from unnoise.data.prepare import _code, _code_of
from unnoise.worlds.emoji.names import FURTHER

WORDS = 4  # no longer ones
NAME = re.compile(r"[a-z][a-z' -]+")


def main() -> None:
    place, emoji = path("emoji").parent, load_emoji()
    known: dict[str, list[str]] = {}
    for text, words in read(place / "cldr.json")["annotations"]["annotations"].items():
        known.setdefault(_code_of(text), []).extend(words.get("tts", ()))
    for text, words in read(place / "emojilib.json").items():
        known.setdefault(_code_of(text), []).append(words[0].replace("_", " "))
    for code, text in read(place / "unicode-names.json").items():
        known.setdefault(_code(code), []).append(text)
    for file in sorted(place.glob("*-chars.json")):
        for code, text in read(file).items():
            known.setdefault(_code(code), []).append(text.replace("-", " "))
    found = {}
    for c in emoji.concepts:
        own = {plain(c.label), NOUNS.get(c.label, ""), plain(c.label).replace("-", " ")}
        names = [
            n
            for n in dict.fromkeys(plain(t) for t in known.get(c.code, ()))
            if n not in own and NAME.fullmatch(n) and len(n.split()) <= WORDS
        ]
        if names and c.group != "flags":
            found[c.label] = names
    FURTHER.write_text(json.dumps(found, ensure_ascii=False, indent=0, sort_keys=True) + "\n")
    print(FURTHER, len(found), "concepts", sum(map(len, found.values())), "names")


def read(file: Path) -> dict:
    return json.loads(file.read_bytes())


if __name__ == "__main__":
    main()
