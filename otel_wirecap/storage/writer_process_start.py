"""What a writer's process runs first: an interpreter that has imported nothing, and is told where to import from.

It is started without ``site`` and without the environment's paths, since a ``sitecustomize`` found there may be the
very one that instruments applications. It is no child of the application's, who may wait until it has none left, or
become another program that knows of none. So its end is up to whoever adopts it (``adopted_writers.py``), who knows it
by its name.
"""

import marshal
import os
import sys

PROCESS_NAME = b"wirecap-writer"
"""In lists of processes, and all that can still be read of one that has ended; 15 bytes at most (prctl(2))."""


def main() -> None:
    """Leaves its parent, reads the import path of that from the socket, and goes on with its writer."""
    set_process_name()  # before the fork: where the application is killed now, this one is adopted, too
    if os.fork():
        os._exit(0)
    size = int.from_bytes(os.read(0, 4), "little")
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data)) or sys.exit(0)
    version, folders = marshal.loads(data)  # noqa: S302  # from our parent
    # The standard library first: an application whose modules have names of its own has imported the library's before.
    sys.path += [folder for folder in folders if folder not in sys.path]

    from otel_wirecap.version import __version__  # found only now

    if __version__ != version:  # another one was installed since the application imported its own
        return
    from otel_wirecap.storage.in_writer_process import run

    run(0)


def set_process_name() -> None:
    """Names this process; does nothing where the system has no file for that."""
    try:
        descriptor = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(descriptor, PROCESS_NAME)
        os.close(descriptor)
    except OSError:
        pass


if __name__ == "__main__":
    main()
