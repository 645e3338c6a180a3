"""What can go wrong with the embedded servers.

ServersError                the text says what to do; nothing was left running
    ServerExited            a server ended while it was starting; the text ends with the tail of its log
    DataDirectoryBusy       another paynode runs on the same data directory
"""

from __future__ import annotations


class ServersError(Exception):
    """The embedded servers cannot run as asked."""


class ServerExited(ServersError):
    """A server ended before it was ready."""


class DataDirectoryBusy(ServersError):
    """One data directory has one owner at a time."""
