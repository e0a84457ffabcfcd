#!/usr/bin/env python3
"""Links that leave the book, as mdBook's preprocessor: to the repository when its address is known, else plain text.

The pages link to files of the repository by relative paths, which is right where the repository is read. In the book
those files are not there.
"""
import json
import posixpath
import re
import sys

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def rewrite(content, page, src, repository):
    """The page's text with each link to outside of SRC replaced."""

    def one(link):
        text, target = link.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return link.group(0)
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(src, posixpath.dirname(page), path))
        if path == src or path.startswith(src + "/"):
            return link.group(0)
        if not repository:
            return text
        return f"[{text}]({repository}/blob/main/{path}{'#' + anchor if anchor else ''})"

    # Blocks of code stay as they are.
    parts = re.split(r"(^[ \t]*```.*?^[ \t]*```[ \t]*$)", content, flags=re.M | re.S)
    return "".join(part if n % 2 else LINK.sub(one, part) for n, part in enumerate(parts))


def walk(items, src, repository):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            if chapter.get("path"):
                chapter["content"] = rewrite(chapter["content"], chapter["path"], src, repository)
            walk(chapter["sub_items"], src, repository)


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    config = context["config"]
    repository = config.get("output", {}).get("html", {}).get("git-repository-url", "").rstrip("/")
    # Newer versions of mdBook call the list `items`, older ones `sections`.
    walk(book.get("items", book.get("sections", [])), config["book"].get("src", "src"), repository)
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
