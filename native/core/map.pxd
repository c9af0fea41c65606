# Mirror of map.h.
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint bool

cdef extern from "map.h" nogil:
    enum:
        M13_MAP_BUCKETS
        M13_MAP_NONE

    struct m13_map:
        uint32_t count

    void m13_map_init(m13_map *map, uint64_t seed)
    uint16_t m13_map_find(const m13_map *map, uint64_t key)
    bool m13_map_set(m13_map *map, uint64_t key, uint16_t value)
    void m13_map_remove(m13_map *map, uint64_t key, uint16_t value)
