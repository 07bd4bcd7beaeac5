"""`python -m dynadiag.kernels.cuda [--write]`: the table of registers, printed or refreshed."""

from __future__ import annotations

import argparse

from . import resource_table


def main() -> None:
    """Compile every variant and print the table, or put it into kernels/README.md."""
    parser = argparse.ArgumentParser(
        prog="python -m dynadiag.kernels.cuda", description=main.__doc__
    )
    parser.add_argument("--write", action="store_true", help="refresh kernels/README.md")
    found = resource_table.collect()
    if parser.parse_args().write:
        resource_table.refresh(found)
    else:
        print(resource_table.table(found))


if __name__ == "__main__":
    main()
