"""A window with a chat: `pip install PySide6-Essentials`, then `python examples/qt_window.py ./glm4-int4`.

A thread reads the reply; its signals carry the events to the window, which never waits.
"""

import sys
from threading import Thread

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QCloseEvent, QTextCursor
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton, QTextEdit, QVBoxLayout, QWidget

import edge


class Signals(QObject):
    text = Signal(str)
    done = Signal()


class Window(QWidget):
    def __init__(self, chat: edge.Chat) -> None:
        super().__init__(windowTitle="GLM-4")
        self._chat = chat
        self._thread: Thread | None = None
        self.shown, self.entry, self.stop = QTextEdit(readOnly=True), QLineEdit(), QPushButton("Stop")
        layout = QVBoxLayout(self)
        for widget in (self.shown, self.entry, self.stop):
            layout.addWidget(widget)
        self.signals = Signals()
        self.signals.text.connect(self._append)
        self.signals.done.connect(lambda: self.entry.setEnabled(True))
        self.entry.returnPressed.connect(self.send)
        self.stop.clicked.connect(chat.cancel)  # from any thread

    def send(self) -> None:
        text = self.entry.text()
        self.entry.clear()
        self.entry.setEnabled(False)
        self._append(f"\n> {text}\n")
        self._thread = Thread(target=self._read, args=(text,))
        self._thread.start()

    def _read(self, text: str) -> None:
        try:
            for event in self._chat.stream(text):
                if isinstance(event, edge.Text):
                    self.signals.text.emit(event.text)
        except edge.EdgeError as exc:
            self.signals.text.emit(f"{exc}. {exc.hint}")
        self.signals.done.emit()

    def _append(self, text: str) -> None:
        self.shown.moveCursor(QTextCursor.MoveOperation.End)
        self.shown.insertPlainText(text)

    def closeEvent(self, event: QCloseEvent) -> None:
        self._chat.cancel()
        if self._thread is not None:
            self._thread.join()
        super().closeEvent(event)


if __name__ == "__main__":
    application = QApplication(sys.argv)
    with edge.Chat(sys.argv[1] if len(sys.argv) > 1 else "./glm4-int4") as chat:
        window = Window(chat)
        window.resize(640, 480)
        window.show()
        application.exec()
