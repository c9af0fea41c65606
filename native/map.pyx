"""The hash map from addresses to peer slots."""

from libc.stdint cimport uint16_t, uint64_t
from native.core cimport map as c

BUCKETS = c.M13_MAP_BUCKETS
NONE = c.M13_MAP_NONE


cdef class Map:
    """64-bit keys to values below NONE."""
    cdef c.m13_map map

    def __cinit__(self, uint64_t seed):
        c.m13_map_init(&self.map, seed)

    def find(self, uint64_t key):
        """NONE when the key is not there."""
        return c.m13_map_find(&self.map, key)

    def set(self, uint64_t key, uint16_t value):
        """False when the map is full."""
        if value == c.M13_MAP_NONE:
            raise ValueError("this value means that there is none")
        return c.m13_map_set(&self.map, key, value)

    def remove(self, uint64_t key, uint16_t value):
        c.m13_map_remove(&self.map, key, value)

    def __len__(self):
        return self.map.count
