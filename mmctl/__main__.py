"""`python -m mmctl` is `mmctl`."""

from mmctl.cli import main

if __name__ == "__main__":
    main()
