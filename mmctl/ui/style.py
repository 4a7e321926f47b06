"""How the widgets of `mmctl ui` lie: beside each other on a wide terminal, below each other on others."""

from __future__ import annotations

WIDE, TALL = 120, 18
"""From so many columns on, the pane is beside the table; with fewer lines it takes the place of the table."""
PLACEHOLDER = "as after mmctl ls: mixmatch state:failed 'test/accuracy>0.8'"
CSS = """
#head { height: 1; text-style: bold; }
#filter { height: 1; display: none; }
#message { height: auto; max-height: 4; color: $text-warning; display: none; }
#body { height: 1fr; layout: vertical; }
.-wide #body { layout: horizontal; }
#table { width: 1fr; height: 1fr; scrollbar-size-horizontal: 0; overflow-x: hidden; scrollbar-size-vertical: 1;
         scrollbar-gutter: stable; }
#side { width: 1fr; height: 1.5fr; display: none; border-top: solid $foreground 40%; }
.-wide #side { height: 1fr; border-top: none; border-left: solid $foreground 40%; }
.-open #side { display: block; }
.-open.-short #table, .-open.-zoom #table { display: none; }
#names { height: 1; }
#details, #curves, #logs { height: 1fr; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
                           scrollbar-size-horizontal: 1; }
#details-text, #curves-text { height: auto; }
#logs { background: $background; }
ModalScreen { align: center middle; background: $background 50%; }
.dialog { width: 90%; max-width: 100; height: auto; max-height: 90%; border: solid $foreground; padding: 0 1;
          background: $background; }
.dialog OptionList { height: auto; max-height: 16; }
#wrong { color: $text-warning; height: auto; }
"""
