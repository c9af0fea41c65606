/* Frames from the network through parse, open, classify and what follows, on a path with a live
 * session; the input chooses which frames are authentic.
 *
 *   role u8, then records: kind u8, detail u8, length u16, bytes */
#include <stdlib.h>

#include "bed.h"
#include "fragment.h"

enum { RAW, CLEAR, SEALED, LATER, OUTWARD, KINDS };
static const uint8_t OTHERS[3] = {4, BED_IPV6 + 1, BED_L2 + 1};
enum { PACKETS_MAX = 8, RECORDS_MAX = 64, FLUSH = 0x80 };

struct run {
    struct bed bed;
    struct m13_vector vector;
    uint8_t *memory[PACKETS_MAX];
    bool authentic[PACKETS_MAX];
};

static uint32_t outer_bytes_of(const struct m13_endpoint *from)
{
    return m13_endpoint_kind(from) == M13_ENDPOINT_IPV6   ? M13_WIRE_OUTER6_BYTES
           : m13_endpoint_kind(from) == M13_ENDPOINT_IPV4 ? M13_WIRE_OUTER_BYTES
                                                          : 0;
}

/* What the network would have around a frame. */
static void wrap(uint8_t *data, uint32_t frame_bytes, const struct m13_endpoint *from)
{
    if (m13_endpoint_kind(from) == M13_ENDPOINT_L2)
        return;
    struct m13_wire_udp *udp = (void *)(data + outer_bytes_of(from) - sizeof *udp);
    memset(data, 0, outer_bytes_of(from));
    if (m13_endpoint_kind(from) == M13_ENDPOINT_IPV6) {
        struct m13_wire_outer6 *outer = (void *)data;
        outer->ethernet.type = __builtin_bswap16(0x86DD);
        outer->ip.version_class_label = 0x60;
        outer->ip.payload_bytes = __builtin_bswap16((uint16_t)(frame_bytes + 8));
        outer->ip.next_header = 17;
        memcpy(outer->ip.source, from->address, 16);
        memcpy(outer->ip.destination, from->local_address, 16);
    } else {
        struct m13_wire_outer *outer = (void *)data;
        outer->ethernet.type = __builtin_bswap16(0x0800);
        outer->ip.version_length = 0x45;
        outer->ip.total_bytes = __builtin_bswap16((uint16_t)(frame_bytes + 28));
        outer->ip.protocol = 17;
        outer->ip.source = m13_endpoint_mapped_ipv4(from->address);
        outer->ip.destination = m13_endpoint_mapped_ipv4(from->local_address);
    }
    udp->source = from->port;
    udp->destination = __builtin_bswap16(BED_PORT);
    udp->bytes = __builtin_bswap16((uint16_t)(frame_bytes + 8));
}

static void receive(struct run *run, uint8_t *data, size_t bytes, bool authentic)
{
    struct m13_path *path = &run->bed.path;
    uint32_t index = run->vector.count++;
    struct m13_packet *packet = &run->vector.packets[index];
    memset(packet, 0, sizeof *packet);
    run->memory[index] = data;
    run->authentic[index] = authentic;
    if (path->config.is_hub) {
        m13_parse_outer(path, packet, data, (uint32_t)bytes);
        if (packet->verdict == M13_DROPPED)
            return;
    } else {
        packet->frame = (void *)data;
        packet->bytes = (uint32_t)bytes;
        packet->verdict = M13_TO_OPEN;
    }
    BED_ASSERT((uint8_t *)packet->frame + packet->bytes <= data + bytes);
}

/* A frame as the other end would build it: flags, then the payload. Detail: bit 0 key, bit 1
 * another endpoint, bit 2 a false payload length, bits 3-5 how far the counter is behind, bit 6
 * one header byte false before sealing, bit 7 after. The payload's length chooses that byte. */
static void receive_built(struct run *run, uint8_t kind, uint8_t detail, const uint8_t *piece,
                          size_t piece_bytes)
{
    struct bed *bed = &run->bed;
    bool is_hub = bed->path.config.is_hub;
    /* another endpoint: one of each kind */
    const struct m13_endpoint from =
        bed_endpoint(bed, detail & 2 ? OTHERS[piece_bytes % (sizeof OTHERS)] : 0);
    uint32_t outer_bytes = is_hub ? outer_bytes_of(&from) : 0;
    uint32_t payload_bytes = piece_bytes ? (uint32_t)piece_bytes - 1 : 0;
    uint32_t frame_bytes = M13_WIRE_FRAME_BYTES + payload_bytes;
    uint8_t *data = malloc(outer_bytes + frame_bytes);
    struct m13_wire_frame *frame = (void *)(data + outer_bytes);
    uint64_t behind = (detail >> 3) & 0x07;
    uint32_t victim = payload_bytes % M13_WIRE_FRAME_BYTES;
    uint64_t counter = bed->counter > behind ? bed->counter - behind : bed->counter;

    BED_ASSERT(data);
    if (is_hub)
        wrap(data, frame_bytes, &from);
    const uint8_t peer_mac[6] = {2, 0, 0, 0, 0, 2};
    bool is_l2 = m13_endpoint_kind(&from) == M13_ENDPOINT_L2;
    m13_wire_stamp(frame, is_l2 ? from.mac : peer_mac, piece_bytes ? piece[0] : 0,
                   detail & 4 ? 0xFFFFFFF0u + detail : payload_bytes, counter);
    if (payload_bytes)
        memcpy(frame->payload, piece + 1, payload_bytes);
    if (kind == SEALED) {
        struct m13_aead_job job = {.key = &bed->sealing[detail & 1],
                                   .header = &frame->header,
                                   .bytes = frame_bytes - M13_WIRE_ETHERNET_BYTES};
        frame->header.key_phase = 5 + (detail & 1);
        frame->header.nonce_counter = counter;
        frame->header.nonce_direction = is_hub ? M13_NODE_TO_HUB : M13_HUB_TO_NODE;
        bed->counter++;
        ((uint8_t *)frame)[victim] ^= detail & 0x40 ? 1 : 0;
        m13_aead_seal(&bed->path.aead, &job, 1);
    } else {
        m13_cookie_make(&bed->path.cookie, &from, frame->header.tag);
    }
    ((uint8_t *)frame)[victim] ^= detail & 0x80 ? 1 : 0;
    bool authentic = !(detail & 0x80) || victim < M13_WIRE_ETHERNET_BYTES;
    receive(run, data, outer_bytes + frame_bytes, kind == SEALED && authentic);
}

/* As the reactor does: into a buffer of the data plane's size. */
static void reassemble(struct m13_path *path, struct m13_packet *packet)
{
    struct m13_frag_message message;
    if (!m13_reassemble(path, packet, &message))
        return;
    struct m13_wire_frame *frame = malloc(M13_WIRE_FRAME_BYTES + message.length);
    BED_ASSERT(frame);
    m13_reassembled(packet, frame, &message);
    BED_ASSERT(packet->verdict == M13_TO_TUN && packet->bytes <= M13_FRAME_BYTES);
    if (m13_deliver_check(path, packet))
        packet->verdict = M13_DONE;
    free(frame);
}

static void dispatch(struct m13_path *path, struct m13_packet *packet)
{
    bool is_hub = path->config.is_hub;
    switch (packet->verdict) {
    case M13_TO_TUN:
        if (m13_deliver_check(path, packet))
            packet->verdict = M13_DONE;
        break;
    case M13_TO_REASSEMBLE:
        reassemble(path, packet);
        break;
    case M13_TO_CONTROL:
        m13_control_receive(path, packet);
        break;
    case M13_TO_REGISTER:
        (is_hub ? m13_hub_register : m13_node_echo)(path, packet);
        break;
    case M13_TO_HANDSHAKE:
        (is_hub ? m13_hub_fragment : m13_node_fragment)(path, packet);
        break;
    default:
        break;
    }
    BED_ASSERT(packet->verdict == M13_DONE || packet->verdict == M13_DROPPED);
}

static void flush(struct run *run)
{
    struct m13_path *path = &run->bed.path;
    const struct m13_peer *peer = &path->peers.slots[0];
    const struct m13_session *current = peer->current;
    const struct m13_endpoint endpoint = peer->endpoint;
    bool any_authentic = false, fin = false;

    m13_parse(path, &run->vector);
    m13_open(path, &run->vector);
    for (uint32_t i = 0; i < run->vector.count; i++) {
        BED_ASSERT(run->vector.packets[i].verdict != M13_TO_CLASSIFY || run->authentic[i]);
        any_authentic |= run->authentic[i];
    }
    m13_classify(path, &run->vector);
    for (uint32_t i = 0; i < run->vector.count; i++) {
        const struct m13_packet *packet = &run->vector.packets[i];
        fin |= packet->verdict == M13_TO_CONTROL && packet->session == peer->current &&
               packet->frame->header.flags == M13_FLAGS_FIN;
    }
    for (uint32_t i = 0; i < run->vector.count; i++) {
        dispatch(path, &run->vector.packets[i]);
        free(run->memory[i]);
    }
    m13_goodbye_settle(path);
    run->vector.count = 0;
    /* nothing in the clear moves, replaces or ends a session (§2) */
    if (current) {
        BED_ASSERT(peer->current || fin);
        BED_ASSERT(any_authentic || peer->current == current);
        BED_ASSERT(any_authentic || !memcmp(&peer->endpoint, &endpoint, sizeof endpoint));
    }
    bed_check(&run->bed);
}

/* Every piece is in memory of exactly its size. */
static void send_fragments(struct run *run, struct m13_vector *vector, const uint8_t *inner,
                           uint32_t inner_bytes)
{
    const struct m13_peer *peer = &run->bed.path.peers.slots[0];
    struct m13_fragments plan = m13_fragment_plan(peer, inner_bytes);
    uint32_t left = inner_bytes;
    run->bed.path.outlet.tun_fd = -1; /* what the sender is told goes nowhere */
    m13_too_big_tell(&run->bed.path, &run->bed.path.peers.slots[0], inner, inner_bytes);
    BED_ASSERT(plan.total > 1 && plan.total <= M13_TUNNEL_FRAGMENTS_MAX);
    vector->packets[0].verdict = M13_DONE;
    for (uint32_t index = 0; index < plan.total; index++) {
        struct m13_packet *packet = &vector->packets[vector->count++];
        uint32_t chunk_bytes = left < plan.chunk_bytes ? left : plan.chunk_bytes;
        *packet = vector->packets[0];
        packet->frame = malloc(M13_WIRE_FRAME_BYTES + 8 + chunk_bytes);
        BED_ASSERT(packet->frame);
        m13_fragment_write(packet, &plan, 7, index, inner, inner_bytes);
        BED_ASSERT(packet->bytes == M13_WIRE_FRAME_BYTES + 8 + chunk_bytes);
        BED_ASSERT(packet->bytes <= peer->pmtu.frame_bytes);
        left -= chunk_bytes;
    }
    BED_ASSERT(!left);
}

static void send_outward(struct run *run, const uint8_t *piece, size_t piece_bytes)
{
    static struct m13_vector vector;
    uint8_t *data = malloc(M13_WIRE_FRAME_BYTES + piece_bytes);
    BED_ASSERT(data);
    if (piece_bytes)
        memcpy(data + M13_WIRE_FRAME_BYTES, piece, piece_bytes);
    vector.count = 1;
    vector.packets[0] = (struct m13_packet){
        .frame = (void *)data, .bytes = (uint32_t)(M13_WIRE_FRAME_BYTES + piece_bytes)};
    m13_collect(&run->bed.path, &vector.packets[0], data + M13_WIRE_FRAME_BYTES,
                (uint32_t)piece_bytes, (uint32_t)piece_bytes);
    if (vector.packets[0].verdict == M13_TO_FRAGMENT)
        send_fragments(run, &vector, data + M13_WIRE_FRAME_BYTES, (uint32_t)piece_bytes);
    m13_seal(&run->bed.path, &vector);
    for (uint32_t i = 1; i < vector.count; i++)
        free(vector.packets[i].frame);
    free(data);
}

static void record(struct run *run, struct input *input)
{
    size_t bytes;
    uint8_t kind = input_byte(input), detail = input_byte(input);
    uint8_t *piece = input_piece(input, 2048, &bytes);
    switch (kind % KINDS) {
    case RAW:
        receive(run, piece, bytes, false);
        piece = NULL;
        break;
    case LATER:
        run->bed.path.now_ns += detail * 100 * M13_MILLISECOND_NS;
        break;
    case OUTWARD:
        send_outward(run, piece, bytes);
        break;
    default:
        receive_built(run, kind % KINDS, detail, piece, bytes);
    }
    free(piece);
    if (run->vector.count == PACKETS_MAX || kind & FLUSH)
        flush(run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    struct input input = {data, size};
    bed_open(&run.bed, input_byte(&input) & 1);
    run.vector.count = 0;
    for (int i = 0; input.left && i < RECORDS_MAX; i++)
        record(&run, &input);
    flush(&run);
    bed_close(&run.bed);
    return 0;
}
