"""The command `mmctl`, also as `python -m mmctl`."""

import os
import signal


def main() -> None:
    """Run one command. Ctrl-C ends it at once, without a traceback, from here on and also during slow imports."""
    if "_MMCTL_COMPLETE" in os.environ:
        from mmctl.completion.shell import answer

        if (found := answer(os.environ)) is not None:
            print(found[0])
            raise SystemExit(found[1])
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the handler is imported
        from mmctl.runs.signals import end_at_once

        signal.signal(signal.SIGINT, end_at_once)
    from mmctl.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
