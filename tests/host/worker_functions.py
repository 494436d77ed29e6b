"""What the tests run in worker processes: it must be found by name, in a module."""

import os
import signal
import sys

from tcfs.errors import LimitError
from tcfs.host.room import Room


class Unpicklable(Exception):
    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


def square(number: int) -> int:
    return number * number


def size(data: bytes) -> int:
    return len(data)


def echo(data: bytes) -> bytes:
    return data


def process_id(_: object) -> int:
    return os.getpid()


def fail_from_three(number: int) -> int:
    if number >= 3:
        raise LimitError("three", remedy="count on", details={"number": 3})
    return number


def fail_oddly(_: object) -> None:
    raise Unpicklable("this", "that")


def answer_oddly(_: object) -> object:
    return lambda: None


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave(_: object) -> None:
    sys.exit(5)


def chatter(_: object) -> str:
    sys.stdout.write("printed by a worker\n")
    sys.stdout.flush()
    os.write(1, b"written by a worker\n")
    return sys.stdin.read() + repr(os.read(0, 10))


def wait_for(fifo: bytes) -> bytes:
    """Says so on standard error, then waits until somebody writes to the FIFO."""
    os.write(2, b"waiting\n")
    with open(fifo, "rb") as file:
        return file.read()


def modules(_: object) -> list[str]:
    return sorted(sys.modules)


def first_and_size(room: Room) -> tuple[int, int]:
    return room.view[0], len(room.view)
