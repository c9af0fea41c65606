"""Something changed in the network: a socket for a poll loop that says only of what kind.

The handlers then read the present state, so a lost message (ENOBUFS) costs nothing: it is
reported as a change of every kind.
"""

import errno
import socket

from m13.host import rtnetlink

LINK, NEIGHBOUR, ADDRESS, ROUTE = 0x1, 0x4, 0x10, 0x40
ALL = LINK | NEIGHBOUR | ADDRESS | ROUTE
READ_BYTES = 65536
READS_MAX = 256

# RTM_NEWLINK 16, RTM_NEWADDR 20, RTM_NEWROUTE 24, RTM_NEWNEIGH 28: four message types a kind.
_GROUP_BY_KIND = {4: LINK, 5: ADDRESS, 6: ROUTE, 7: NEIGHBOUR}


class NetlinkEvents:
    """`groups` of a netlink protocol; only those of rtnetlink are told apart."""

    def __init__(self, groups: int, protocol: int = socket.NETLINK_ROUTE) -> None:
        mode = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._is_route = protocol == socket.NETLINK_ROUTE
        self._socket = socket.socket(socket.AF_NETLINK, mode, protocol)
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> int:
        """The kinds of change since the last call, as a mask of the groups; 0 for none. All kinds
        where they are not told apart."""
        changed = 0
        for _ in range(READS_MAX):
            try:
                data = self._socket.recv(READ_BYTES)
                changed |= _kinds(data) if self._is_route else ALL
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed = ALL
        return changed

    def close(self) -> None:
        self._socket.close()


def _kinds(data: bytes) -> int:
    kinds = 0
    for kind, *_ in rtnetlink.messages(data):
        kinds |= _GROUP_BY_KIND.get(kind >> 2, 0)
    return kinds
