"""Checks the ladder of folders: each may include what it stands on, and nothing above itself.

Includes of "folder/file.h" are looked at; those of <hearth/...> are open to all. tests/, bench/ and docs/ may see all.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOWED = {
    "util": {"util"},
    "artifact": {"util", "artifact"},
    "loader": {"util", "artifact", "loader"},
    "ipc": {"util", "artifact", "loader", "ipc"},
    "ipc/client": {"util", "ipc/client"},
    "daemon": {"util", "artifact", "loader", "ipc", "daemon"},
    "cli": {"util", "artifact", "ipc/client", "cli"},
    "python": {"util", "ipc/client", "python"},
    "include/hearth": set(),
}


def folder_of(path):
    """The folder of the ladder that a path is in: the longest name that fits; None outside of the ladder."""
    parts = pathlib.PurePosixPath(path).parts[:-1]
    for length in range(len(parts), 0, -1):
        name = "/".join(parts[:length])
        if name in ALLOWED:
            return name
    return None


def main():
    wrong = 0
    for path in sorted(ROOT.rglob("*.[ch]")):
        name = path.relative_to(ROOT).as_posix()
        folder = folder_of(name)
        if folder is None:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if not found:
                continue
            target = folder_of(found[1])
            if target is None and "/" not in found[1]:
                print(f"{name}:{number}: include \"{found[1]}\" by its path from the root")
                wrong += 1
            elif target is not None and target not in ALLOWED[folder]:
                print(f"{name}:{number}: {folder}/ may not include {found[1]}: it stands above, or beside")
                wrong += 1
    return 1 if wrong else 0


sys.exit(main())
