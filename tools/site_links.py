"""A hook of mkdocs: what a page links to outside docs/, source for instance, is plain text on the site."""

from __future__ import annotations

import os
import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, config: Any, **more: Any) -> str:
    """Without the links that lead out of docs/."""
    folder, docs = os.path.dirname(page.file.abs_src_path), config["docs_dir"]

    def kept(link: re.Match[str]) -> str:
        outside = not os.path.normpath(os.path.join(folder, link[2])).startswith(docs)
        return link[1] if outside and os.path.exists(os.path.join(folder, link[2])) else link[0]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(((?!\w+:)[^)#]+)[^)]*\)", kept, markdown)
