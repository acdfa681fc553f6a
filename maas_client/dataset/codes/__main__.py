"""Write the documentation of the codes into a folder: ``python -m maas_client.dataset.codes FOLDER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from maas_client.dataset.codes import all_codes
from maas_client.dataset.codes.markdown import index_to_markdown, to_markdown


def write_pages(folder: Path) -> None:
    """Write one page per code and an index, and delete the pages of codes that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{code.name}.md": to_markdown(code) for code in all_codes().values()}
    pages["README.md"] = index_to_markdown(all_codes().values())
    for page in folder.glob("*.md"):
        if page.name not in pages:
            page.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write one Markdown page per code, and an index.")
    parser.add_argument("folder", type=Path, help="the folder to write to")
    write_pages(parser.parse_args().folder)
