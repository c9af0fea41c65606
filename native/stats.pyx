"""The layout of the telemetry page, as the C core declares it."""

from collections import namedtuple

from native.core cimport stats as c

Field = namedtuple("Field", "group name type offset text")
Array = namedtuple("Array", "name group offset")

MAGIC = c.M13_STATS_MAGIC
VERSION = c.M13_STATS_VERSION
PAGE_BYTES = sizeof(c.m13_stats_page)


cdef field(const c.m13_stats_field *row):
    return Field(row.group.decode(), row.name.decode(), row.type.decode(), row.offset,
                 row.text.decode())


FIELDS = tuple([field(&c.m13_stats_fields[i]) for i in range(c.m13_stats_field_count)])
STATES = tuple([c.m13_state_names[i].decode() for i in range(c.M13_STATE_COUNT)])

WRITERS_OFFSET = c.M13_PAGE_WRITERS_OFFSET
WRITER_COUNT = c.M13_STATS_WRITERS
WRITER_BYTES = sizeof(c.m13_stats_writer)
WRITER_WORKER = c.M13_WRITER_WORKER
WRITER_TUN = c.M13_WRITER_TUN
WRITERS_WORKER = c.M13_WRITERS_WORKER
# The arrays of a writer, each with the group of fields that names its cells.
WRITER_ARRAYS = (
    Array("counter", "counter", c.M13_WRITER_COUNTER_OFFSET),
    Array("drop", "drop", c.M13_WRITER_DROP_OFFSET),
    Array("gauge", "gauge", c.M13_WRITER_GAUGE_OFFSET),
    Array("stage_cycles", "stage", c.M13_WRITER_STAGE_CYCLES_OFFSET),
    Array("stage_packets", "stage", c.M13_WRITER_STAGE_PACKETS_OFFSET),
)

PEERS_OFFSET = c.M13_PAGE_PEERS_OFFSET
PEER_COUNT = c.M13_STATS_PEERS
PEERS_WORKER = c.M13_STATS_PEERS_WORKER
PEER_BYTES = sizeof(c.m13_stats_peer)
