"""``python -m imageherd``."""

from imageherd.cli import main

if __name__ == "__main__":
    main()
