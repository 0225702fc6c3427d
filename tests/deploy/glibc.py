"""Checks that binaries run on provided.al2023, which has glibc 2.34: prints the newest version of a symbol that each needs.

    glibc.py BINARY…
"""

import re
import sys

PROVIDED = (2, 34)

for path in sys.argv[1:]:
    with open(path, "rb") as file:
        # A binary names the versions of the symbols that it imports in its table of strings.
        needed = max(tuple(map(int, found)) for found in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", file.read()))
    if needed > PROVIDED:
        sys.exit(f"{path} needs glibc {needed}, and provided.al2023 has {PROVIDED}")
    print(f"   {path.split('/')[-2]}: glibc {needed[0]}.{needed[1]}")
