"""Every page is found from docs/README.md, and links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stillhouse.api.load import load_text

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs/README.md"
PAGES = [*(page for page in sorted((ROOT / "docs").rglob("*.md")) if page != INDEX), INDEX]
LINKING = [*PAGES, *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"))]


def links(page: Path) -> set[str]:
    """Return a page's links into the project, code left out."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_found() -> None:
    listed = {(INDEX.parent / link.partition("#")[0]).resolve() for link in links(INDEX)}
    for page in PAGES[:-1]:
        if page.parent.name != "design":  # the folder is linked
            assert page in listed, (
                f"docs/README.md: add a line for {page.relative_to(INDEX.parent)}, under what its reader wants to do"
            )
    assert "docs/README.md" in links(ROOT / "README.md")


@pytest.mark.parametrize("page", LINKING, ids=[str(page.relative_to(ROOT)) for page in LINKING])
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.relative_to(ROOT)}: {link} leads to nothing"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.relative_to(ROOT)}: {link}: no heading of that name"


def whole_resources() -> list[tuple[str, str]]:
    """Return (page and position, text) of every block that is a whole resource."""
    found = []
    for page in LINKING:
        blocks = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        name = str(page.relative_to(ROOT))
        found += [
            (f"{name}-{number}", block) for number, block in enumerate(blocks) if re.search(r"^kind: DistilledModel", block, re.M)
        ]
    return found


@pytest.mark.parametrize(("place", "text"), whole_resources(), ids=[place for place, _ in whole_resources()])
def test_a_whole_resource_is_one(place: str, text: str) -> None:
    assert load_text(text, place).metadata.name
