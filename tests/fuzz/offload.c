/* Cutting what the kernel hands over, and joining what peers send: both are bytes of strangers.
 *
 *   records: kind u8, detail u8, length u16, bytes. Detail 1: the merges are written now. */
#include <stdlib.h>

#include "bed.h"
#include "offload.h"

enum { SPLIT, MERGE, KINDS };
enum { PACKETS_MAX = 64 };

struct run {
    struct m13_merge_set set;
    struct m13_merge merges[PACKETS_MAX];
    uint8_t *packets[PACKETS_MAX];
    uint32_t bytes[PACKETS_MAX];
    uint32_t count;
    uint32_t begun;
    uint32_t written;
};

static void split(const uint8_t *data, size_t bytes)
{
    struct m13_split split;
    uint32_t next, total = 0;
    if (!m13_split_begin(&split, data, (uint32_t)bytes))
        return;
    while ((next = m13_split_next_bytes(&split))) {
        uint8_t *out = malloc(next);
        BED_ASSERT(out && next <= M13_OFFLOAD_PACKET_MAX);
        m13_split_next(&split, out);
        free(out);
        BED_ASSERT(++total <= M13_OFFLOAD_PACKET_MAX);
    }
}

/* A write holds whole packets of ours, each of them once. */
static void write_out(struct run *run, struct m13_merge *merge)
{
    size_t bytes = 0, expected = 0;
    m13_merge_finish(merge);
    BED_ASSERT(merge->count && merge->count <= M13_MERGE_PACKETS_MAX);
    for (uint32_t i = 0; i < merge->count; i++) {
        BED_ASSERT(merge->origin[i] < run->count && run->bytes[merge->origin[i]]);
        expected += run->bytes[merge->origin[i]] - (i ? merge->header_bytes : 0);
        run->bytes[merge->origin[i]] = 0;
    }
    for (uint32_t i = 0; i <= merge->count; i++) {
        volatile uint8_t last = ((const uint8_t *)merge->pieces[i].iov_base)[0];
        (void)last;
        bytes += merge->pieces[i].iov_len;
    }
    BED_ASSERT(bytes == expected + M13_OFFLOAD_HEADER_BYTES && merge->bytes == expected);
    run->written += merge->count;
}

/* What m13_deliver_check() has made sure of: one whole packet of either family. */
static bool make_whole(uint8_t *packet, size_t bytes)
{
    struct m13_wire_ipv4 *ip = (void *)packet;
    struct m13_wire_ipv6 *ip6 = (void *)packet;
    if (bytes >= sizeof *ip6 && packet[0] >> 4 == 6) {
        ip6->payload_bytes = __builtin_bswap16((uint16_t)(bytes - sizeof *ip6));
        return true;
    }
    if (bytes < sizeof *ip)
        return false;
    ip->version_length = 0x40 | (ip->version_length & 0x0F);
    if ((ip->version_length & 0x0F) < 5)
        ip->version_length = 0x45;
    ip->total_bytes = __builtin_bswap16((uint16_t)bytes);
    return true;
}

static void merge(struct run *run, uint8_t *packet, size_t bytes)
{
    uint32_t origin = run->count;
    if (run->count == PACKETS_MAX || !make_whole(packet, bytes)) {
        free(packet);
        return;
    }
    run->packets[run->count] = packet;
    run->bytes[run->count++] = (uint32_t)bytes;
    if (m13_merge_join(&run->set, packet, (uint32_t)bytes, origin))
        return;
    struct m13_merge *leaves =
        m13_merge_open(&run->set, &run->merges[run->begun++], packet, (uint32_t)bytes, origin);
    if (leaves)
        write_out(run, leaves);
}

static void flush(struct run *run)
{
    for (uint32_t i = 0; i < run->set.count; i++)
        write_out(run, run->set.open[i]);
    BED_ASSERT(run->written == run->count);
    for (uint32_t i = 0; i < run->count; i++)
        free(run->packets[i]);
    run->set.count = run->count = run->begun = run->written = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    struct input input = {data, size};
    while (input.left) {
        size_t bytes;
        uint8_t kind = input_byte(&input), detail = input_byte(&input);
        uint8_t *piece = input_piece(&input, 4096, &bytes);
        if (kind % KINDS == MERGE) {
            merge(&run, piece, bytes);
        } else {
            split(piece, bytes);
            free(piece);
        }
        if (detail & 1)
            flush(&run);
    }
    flush(&run);
    return 0;
}
