"""The bitmap of free frames."""

import os

from cpython cimport array
from libc.stdint cimport uint32_t
from native.core cimport slab as c

FRAMES_MAX = c.M13_SLAB_FRAMES_MAX


cdef class Slab:
    """Frames 0 to `frames` - 1, all free at first. Giving one twice aborts the process."""
    cdef c.m13_slab slab

    def __cinit__(self, uint32_t frames):
        cdef int error = c.m13_slab_init(&self.slab, frames)
        if error:
            raise OSError(-error, f"slab of {frames} frames: {os.strerror(-error)}")

    def take(self, uint32_t count):
        """Up to `count` frame numbers."""
        cdef array.array frames = array.array("I", bytes(4 * count))
        taken = c.m13_slab_take(&self.slab, frames.data.as_uints, count)
        return frames[:taken].tolist()

    def give(self, numbers not None):
        cdef array.array frames = array.array("I", numbers)
        c.m13_slab_give(&self.slab, frames.data.as_uints, len(frames))

    @property
    def count(self):
        return self.slab.count

    @property
    def count_free(self):
        return self.slab.count_free
