/* What was once read from a TUN, out of a pcap file of link type 147 (bench/check/record.py). */
#ifndef M13_CHECK_RECORDING_H
#define M13_CHECK_RECORDING_H

#include <stdint.h>

/* One read of the TUN: a struct virtio_net_hdr and an IPv4 packet, on a cache line. */
struct recorded_read {
    const uint8_t *data;
    uint32_t bytes;
};

struct recording {
    uint32_t count;
    struct recorded_read *reads;
    uint8_t *memory;
};

/* Ends the program with one line when the file cannot be read or is of another kind. */
void recording_open(struct recording *recording, const char *path);
void recording_close(struct recording *recording);

#endif
