/* Sealed control messages: the payload of an authentic frame is still not trusted.
 *
 *   role u8, then records: length u16, TLVs */
#include <stdlib.h>

#include "bed.h"

static void receive(struct bed *bed, const uint8_t *tlvs, size_t bytes)
{
    struct m13_wire_frame *frame = malloc(M13_WIRE_FRAME_BYTES + bytes);
    struct m13_packet packet = {.frame = frame,
                                .bytes = (uint32_t)(M13_WIRE_FRAME_BYTES + bytes),
                                .verdict = M13_TO_CONTROL};
    BED_ASSERT(frame);
    m13_wire_stamp(frame, bed->path.config.mac, M13_FLAG_CONTROL, (uint32_t)bytes, 0);
    memcpy(frame->payload, tlvs, bytes);
    m13_control_receive(&bed->path, &packet);
    BED_ASSERT(packet.verdict == M13_DONE || packet.verdict == M13_DROPPED);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bed bed;
    struct input input = {data, size};
    bed_open(&bed, input_byte(&input) & 1);
    while (input.left) {
        size_t bytes;
        uint8_t *piece = input_piece(&input, 2048, &bytes);
        receive(&bed, piece, bytes);
        free(piece);
        const struct m13_path_config *config = &bed.path.config;
        BED_ASSERT(config->mtu_bytes >= M13_TUNNEL_MTU_MIN);
        BED_ASSERT(config->mtu_bytes <= M13_TUNNEL_MTU_MAX);
        BED_ASSERT(bed.path.keepalive_ns && bed.path.timeout_ns > bed.path.keepalive_ns);
        BED_ASSERT(!config->is_hub || bed.path.peers.slots[0].tunnel_address == BED_TUNNEL);
        bed_check(&bed);
    }
    bed_close(&bed);
    return 0;
}
