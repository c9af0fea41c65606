/* Both ends' handshake against hostile messages and a hostile worker process, through a real
 * channel.
 *
 *   role u8, then records: kind u8, detail u8, length u16, bytes */
#include <stdlib.h>

#include "bed.h"

enum { FRAGMENT, MESSAGE, ANSWER, LATER, ECHO, LOSE, KINDS };
enum { RECORDS_MAX = 48, MESSAGE_MAX = 9216 };

struct run {
    struct bed bed;
    uint8_t message[M13_CHANNEL_PAYLOAD_BYTES];
    struct m13_channel_message said;
    uint32_t peer, generation; /* of the last request */
};

/* Detail: bits 0-3 the source, bit 4 without a cookie. */
static void feed(struct run *run, uint8_t detail, const uint8_t *payload, uint32_t bytes)
{
    struct m13_path *path = &run->bed.path;
    struct m13_wire_frame *frame = malloc(M13_WIRE_FRAME_BYTES + bytes);
    struct m13_packet packet = {.frame = frame,
                                .bytes = M13_WIRE_FRAME_BYTES + bytes,
                                .peer = M13_PEER_NONE,
                                .verdict = M13_TO_HANDSHAKE,
                                .source = bed_endpoint(&run->bed, detail & 0x0F)};
    BED_ASSERT(frame);
    m13_wire_stamp(frame, path->config.mac, M13_FLAGS_HANDSHAKE, 0, 0);
    frame->header.key_phase = detail;
    if (!(detail & 0x10))
        m13_cookie_make(&path->cookie, &packet.source, frame->header.tag);
    memcpy(frame->payload, payload, bytes);
    (path->config.is_hub ? m13_hub_fragment : m13_node_fragment)(path, &packet);
    BED_ASSERT(packet.verdict == M13_DONE || packet.verdict == M13_DROPPED);
    free(frame);
}

/* A whole message of a right or wrong length, split as an honest sender would. */
static void feed_message(struct run *run, uint8_t detail, const uint8_t *piece, size_t bytes)
{
    static const uint32_t lengths[4] = {0, M13_CLIENT_HELLO_BYTES, M13_SERVER_HELLO_BYTES,
                                        M13_FINISHED_BYTES};
    uint8_t payload[8 + M13_FRAGMENT_CHUNK_BYTES];
    uint32_t length = bytes && piece[0] < 4 && lengths[piece[0]] ? lengths[piece[0]] : 1500;
    memset(run->message, 0, sizeof run->message);
    if (bytes)
        memcpy(run->message, piece, bytes < length ? bytes : length);
    for (uint32_t index = 0, offset = 0; offset < length; index++) {
        uint32_t chunk = length - offset < 1402 ? length - offset : 1402;
        struct m13_wire_fragment header = {.id = run->message[bytes ? bytes - 1 : 0],
                                           .index = (uint8_t)index,
                                           .total = (uint8_t)m13_wire_fragment_total(length, 1402),
                                           .offset = (uint16_t)offset,
                                           .bytes = (uint16_t)chunk};
        memcpy(payload, &header, sizeof header);
        memcpy(payload + sizeof header, run->message + offset, chunk);
        feed(run, detail, payload, (uint32_t)sizeof header + chunk);
        offset += chunk;
    }
}

static void take_requests(struct run *run)
{
    while (m13_channel_receive(run->bed.path.channel, M13_CHANNEL_REQUESTS, &run->said)) {
        BED_ASSERT(run->said.peer < run->bed.path.peers.count);
        run->peer = run->said.peer;
        run->generation = run->said.generation;
    }
}

/* Detail: bits 0-1 which answer, bit 2 a false peer, bit 3 a false generation, bit 4 the length
 * is the input's, bit 5 an impossible kind. */
static void answer(struct run *run, uint8_t detail, const uint8_t *piece, size_t bytes)
{
    struct m13_path *path = &run->bed.path;
    uint32_t right[4] = {M13_CLIENT_HELLO_BYTES, M13_SERVER_HELLO_BYTES,
                         sizeof(struct m13_channel_established),
                         sizeof(struct m13_channel_refused)};
    if (!path->config.is_hub)
        right[2] += M13_FINISHED_BYTES;
    take_requests(run);
    run->said = (struct m13_channel_message){
        .kind = M13_CHANNEL_SAY_CLIENT_HELLO + (detail & 3) + (detail & 0x20),
        .peer = detail & 4 ? run->peer + bytes : run->peer,
        .generation = detail & 8 ? run->generation + 1 : run->generation,
        .length = detail & 0x10 ? (uint32_t)bytes : right[detail & 3]};
    if (bytes)
        memcpy(run->said.payload, piece, bytes);
    m13_channel_send(path->channel, M13_CHANNEL_ANSWERS, &run->said);
    (path->config.is_hub ? m13_hub_answers : m13_node_answers)(path);
}

static void later(struct m13_path *path, uint8_t detail)
{
    path->now_ns += detail * 50 * M13_MILLISECOND_NS;
    if (path->config.is_hub)
        m13_hub_tick(path);
    else
        m13_node_tick(path, &path->peers.slots[0]);
    m13_report_peers(path);
}

static void echo(struct run *run, uint8_t detail)
{
    struct m13_path *path = &run->bed.path;
    struct m13_wire_frame frame;
    struct m13_packet packet = {.frame = &frame,
                                .bytes = M13_WIRE_FRAME_BYTES,
                                .verdict = M13_TO_REGISTER,
                                .source = bed_endpoint(&run->bed, detail & 0x0F)};
    m13_wire_stamp(&frame, path->config.mac, detail & 0x10 ? 0 : M13_FLAGS_ECHO, 0, 0);
    (path->config.is_hub ? m13_hub_register : m13_node_echo)(path, &packet);
}

static void record(struct run *run, struct input *input)
{
    size_t bytes;
    struct m13_path *path = &run->bed.path;
    uint8_t kind = input_byte(input), detail = input_byte(input);
    uint8_t *piece = input_piece(input, MESSAGE_MAX, &bytes);
    switch (kind % KINDS) {
    case FRAGMENT:
        feed(run, detail, piece, (uint32_t)bytes);
        break;
    case MESSAGE:
        feed_message(run, detail, piece, bytes);
        break;
    case ANSWER:
        answer(run, detail, piece, bytes);
        break;
    case LATER:
        later(path, detail);
        break;
    case ECHO:
        echo(run, detail);
        break;
    case LOSE: /* only then does a node begin anew */
        if (!path->config.is_hub)
            m13_peer_forget_sessions(&path->peers.slots[0], &path->aead);
        break;
    }
    free(piece);
    bed_check(&run->bed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    struct input input = {data, size};
    bed_open(&run.bed, input_byte(&input) & 1);
    run.peer = run.generation = 0;
    for (int i = 0; input.left && i < RECORDS_MAX; i++)
        record(&run, &input);
    bed_close(&run.bed);
    return 0;
}
