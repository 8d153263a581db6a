"""``python -m mirth.cli``, where the script ``mirth`` is not on the path."""

from mirth.cli import main

main()
