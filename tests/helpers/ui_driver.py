"""Uses `mmctl ui` as a person does, without a terminal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Static

from mmctl.ui.app import UiApp
from mmctl.ui.reading import View

Test = Callable[[UiApp, "Driver"], Awaitable[None]]


class Driver:
    """Presses keys and waits until what they begin is done."""

    def __init__(self, app: UiApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def settle(self) -> None:
        for _ in range(3):
            await self.pilot.pause(0)
            while any(not worker.is_finished for worker in self.app.workers):
                await self.pilot.pause(0.01)

    async def press(self, *names: str) -> None:
        for name in names:
            await self.pilot.press(name)
            await self.settle()

    async def type(self, text: str) -> None:
        self.app.screen.query_one("Input").value = text
        await self.settle()

    def screen(self) -> str:
        """What stands on the screen."""
        page = self.app.export_screenshot()
        cells = re.findall(r"<text [^>]*>(.*?)</text>", page)
        return " ".join(cells).replace("&#160;", " ").replace("&gt;", ">").replace("&quot;", '"')

    def pane(self, name: str) -> str:
        return str(self.app.query_one(f"#{name}-text", Static).render())

    def message(self) -> str:
        return str(self.app.message.render()) if self.app.message.display else ""

    def told(self) -> str:
        """What was said for some seconds."""
        return "\n".join(note.message for note in self.app._notifications)

    def names(self) -> list[str]:
        return [run["name"] for run in self.app.table.shown.runs]


def play(test: Test, size: tuple[int, int] = (160, 40), view: View | None = None, folder: str = "runs") -> UiApp:
    """Run the app without a terminal and let a test use it."""

    async def go() -> UiApp:
        app = UiApp(Path(folder), view or View())
        app.NOTIFICATION_TIMEOUT = 600  # on a busy machine, a key may take longer than a notification stays
        async with app.run_test(size=size) as pilot:
            driver = Driver(app, pilot)
            await driver.settle()
            await test(app, driver)
        return app

    return asyncio.run(go())
