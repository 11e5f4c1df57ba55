"""Every page is reached from the README by links, and every link on the way leads somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def links(page: Path) -> list[Path]:
    """The files and folders that a page links to (not other sites)."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [(page.parent / target).resolve() for target in LINK.findall(text)]


def test_every_link_of_every_page_leads_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "lab").rglob("*.md")]
    assert len(pages) > 15
    assert [(str(p.relative_to(ROOT)), str(t)) for p in pages for t in links(p) if not t.exists()] == []


def test_every_page_of_the_docs_is_in_their_index_and_the_index_in_the_readme():
    index = ROOT / "docs" / "README.md"
    missing = set((ROOT / "docs").rglob("*.md")) - {index} - set(links(index))
    assert not missing, f"link them in docs/README.md: {sorted(p.name for p in missing)}"
    assert index in links(ROOT / "README.md") and ROOT / "docs" / "questions.md" in links(ROOT / "README.md")


def test_commands_of_the_readme_are_known():
    from tests.test_questions import wrong_command

    fenced = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    blocks = [text for language, text in fenced if not language]
    lines = [
        part.split("#")[0].strip() for b in blocks for line in b.splitlines() for part in line.split(" && ")
    ]
    found = [line for line in lines if line.startswith("unnoise ")]
    assert len(found) > 20
    assert [
        f"{line}: {w}" for line in found if (w := wrong_command(line.replace("[", "(").replace("]", ")")))
    ] == []
