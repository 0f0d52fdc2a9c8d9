"""What a writer's process runs first: an interpreter that has imported nothing, and is told where to import from.

It is started without ``site`` and without the environment's paths, since a ``sitecustomize`` found there may be the
very one that instruments applications. It is no child of the application's, who may wait until it has none left, or
become another program that knows of none.
"""

import marshal
import os
import sys


def main() -> None:
    """Leaves its parent, reads the import path of that from the socket, and goes on with its writer."""
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


if __name__ == "__main__":
    main()
