"""Write a page per code: ``python -m maas_client.dataset.codes docs/codes``."""

from __future__ import annotations

import sys
from pathlib import Path

from maas_client.dataset.codes import all_codes
from maas_client.dataset.codes.markdown import index_to_markdown, to_markdown


def main(folder: str) -> None:
    """Write all pages, and take away those of codes that are no more."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    pages = {f"{code.name}.md": to_markdown(code) for code in all_codes().values()}
    pages["README.md"] = index_to_markdown(all_codes().values())
    for old in place.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (place / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/codes")
