/* From the socket to the TUN: datagrams the kernel joined are opened where they lie, and written
 * as large packets made of pieces of them. */
#include <errno.h>

#include "fragment.h"
#include "inner.h"
#include "reactor.h"

#define RETRY_NS (20 * M13_MILLISECOND_NS)

/* --- arrivals -----------------------------------------------------------------------------------
 */

/* A packet is done with: a piece of an arrival, or one that was put together. */
static void release(struct m13_reactor *reactor, uint32_t index)
{
    if (index >= M13_REACTOR_ARRIVALS) {
        index -= M13_REACTOR_ARRIVALS;
        m13_slab_give(&reactor->wholes_free, &index, 1);
        return;
    }
    if (--reactor->arrivals[index].held)
        return;
    m13_uring_lend(&reactor->arrival_group, index);
    reactor->lent_arrivals++;
}

/* What a receive gave, not yet in the queue; NULL: nothing to queue, and no buffer of ours. */
static struct io_uring_recvmsg_out *take(struct m13_reactor *reactor,
                                         const struct io_uring_cqe *completion, bool *armed,
                                         uint32_t *index)
{
    if (!(completion->flags & IORING_CQE_F_MORE))
        *armed = false;
    /* -ENOBUFS: all buffers in hand, armed again when one is back. ICMP never ends the request: the
     * socket is not connected, so the kernel reports none to it. */
    if (completion->res < 0 && completion->res != -ENOBUFS)
        reactor->receive_retry_ns = reactor->path.now_ns + RETRY_NS;
    if (completion->res < 0 || !(completion->flags & IORING_CQE_F_BUFFER))
        return NULL;
    *index = completion->flags >> IORING_CQE_BUFFER_SHIFT;
    uint8_t *memory = reactor->arrival_group.arena + (uint64_t)*index * M13_REACTOR_LARGE_BYTES;
    struct io_uring_recvmsg_out *out =
        io_uring_recvmsg_validate(memory, completion->res, &reactor->receive_shape);
    if (!out) {
        m13_uring_lend(&reactor->arrival_group, *index);
        return NULL;
    }
    struct m13_arrival *arrival = &reactor->arrivals[*index];
    *arrival = (struct m13_arrival){.held = 1};
    arrival->frames = io_uring_recvmsg_payload(out, &reactor->receive_shape);
    arrival->bytes = io_uring_recvmsg_payload_length(out, completion->res, &reactor->receive_shape);
    arrival->frame_bytes = arrival->bytes;
    m13_stats_add(reactor->path.stats, M13_STAT_receives, 1);
    m13_stats_add(reactor->path.stats, M13_STAT_received_bytes, arrival->bytes);
    return out;
}

/* The queue holds as many as there are buffers. */
static void queue(struct m13_reactor *reactor, uint32_t index)
{
    if (--reactor->lent_arrivals < reactor->least_arrivals)
        reactor->least_arrivals = reactor->lent_arrivals;
    reactor->arrived[reactor->arrived_tail++ % M13_REACTOR_ARRIVALS] = index;
}

void m13_reactor_received(struct m13_reactor *reactor, const struct io_uring_cqe *completion)
{
    uint32_t index;
    struct io_uring_recvmsg_out *out = take(reactor, completion, &reactor->receive_armed, &index);
    if (!out)
        return;
    m13_reactor_address_read(reactor, &reactor->arrivals[index], out);
    queue(reactor, index);
}

void m13_reactor_received_l2(struct m13_reactor *reactor, const struct io_uring_cqe *completion)
{
    uint32_t index;
    if (!take(reactor, completion, &reactor->l2_armed, &index))
        return;
    struct m13_arrival *arrival = &reactor->arrivals[index];
    if (m13_parse_l2(&reactor->path, arrival->frames, arrival->bytes, &arrival->source)) {
        queue(reactor, index);
    } else {
        m13_stats_drop(reactor->path.stats, M13_DROP_l2_frame);
        m13_uring_lend(&reactor->arrival_group, index);
    }
}

/* --- a vector -----------------------------------------------------------------------------------
 */

static void submit_write(struct m13_reactor *reactor, struct m13_merge *write)
{
    struct io_uring_sqe *entry = m13_uring_entry(&reactor->uring);
    uint32_t index = (uint32_t)(write - reactor->writes);
    m13_merge_finish(write);
    if (!entry) {
        m13_reactor_written(reactor, index, -EBUSY);
        return;
    }
    io_uring_prep_writev(entry, M13_FILE_TUN, write->pieces, write->count + 1, 0);
    entry->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(entry, M13_TAG(M13_TAG_WRITE, index));
    m13_stats_add(reactor->path.stats, M13_STAT_tun_writes, 1);
    m13_stats_add(reactor->path.stats, M13_STAT_tun_written_packets, write->count);
    m13_stats_add(reactor->path.stats, M13_STAT_tun_written_bytes, write->bytes);
}

/* Every TO_TUN packet of the vector, joined by flow; KEPT until it is written. */
static void write_vector(struct m13_reactor *reactor)
{
    struct m13_merge_set set = {.udp_stays_alone = !reactor->path.config.large_udp};
    for (uint32_t i = 0; i < reactor->inward.count; i++) {
        struct m13_packet *packet = &reactor->inward.packets[i];
        if (packet->verdict != M13_TO_TUN)
            continue;
        uint8_t *inner = packet->frame->payload;
        uint32_t index, bytes = packet->frame->header.payload_bytes;
        packet->verdict = M13_KEPT;
        if (m13_merge_join(&set, inner, bytes, packet->index))
            continue;
        if (!m13_slab_take(&reactor->writes_free, &index, 1)) {
            m13_drop(&reactor->path, packet, M13_DROP_tun_ring_full);
            continue;
        }
        struct m13_merge *leaving =
            m13_merge_open(&set, &reactor->writes[index], inner, bytes, packet->index);
        if (leaving)
            submit_write(reactor, leaving);
    }
    for (uint32_t i = 0; i < set.count; i++)
        submit_write(reactor, set.open[i]);
}

void m13_reactor_written(struct m13_reactor *reactor, uint32_t index, int32_t result)
{
    const struct m13_merge *write = &reactor->writes[index];
    for (uint32_t i = 0; i < write->count; i++) {
        if (result < 0)
            m13_stats_drop(reactor->path.stats, M13_DROP_tun_write);
        release(reactor, write->origin[i]);
    }
    m13_slab_give(&reactor->writes_free, &index, 1);
}

/* --echo: a tunnel packet goes back where it came from, its addresses swapped. */
static void echo(struct m13_reactor *reactor, const struct m13_packet *packet)
{
    uint32_t bytes = packet->frame->header.payload_bytes;
    const struct m13_peer *peer = &reactor->path.peers.slots[packet->peer];
    struct m13_packet answer = {.peer = packet->peer, .session = peer->current};
    bool whole = bytes <= peer->whole_bytes_max;
    if (bytes > reactor->path.config.mtu_bytes) { /* one frame may hold more than we ever send */
        m13_stats_drop(reactor->path.stats, M13_DROP_tunnel_mtu);
        return;
    }
    struct m13_wire_frame *frame =
        answer.session && whole ? m13_reactor_append(reactor, bytes, &answer) : NULL;
    if (!answer.session || (whole ? !frame : !m13_reactor_may_fragment(reactor)))
        return;
    uint8_t *inner = whole ? frame->payload : reactor->oversize;
    memcpy(inner, packet->frame->payload, bytes);
    m13_inner_swap_ends(inner);
    if (!whole)
        m13_reactor_fragment(reactor, bytes, &answer);
}

/* A packet for another node joins that one's train. */
static void send_relayed(struct m13_reactor *reactor, struct m13_packet *packet)
{
    uint32_t bytes = packet->frame->header.payload_bytes;
    if (packet->verdict != M13_TO_NETWORK)
        return;
    struct m13_wire_frame *frame = m13_reactor_append(reactor, bytes, packet);
    if (!frame) {
        m13_drop(&reactor->path, packet, M13_DROP_queue_full);
        return;
    }
    memcpy(frame->payload, packet->frame->payload, bytes);
    packet->verdict = M13_DONE;
}

/* A packet put together from its pieces moves out of the last one's arrival. */
static void reassemble(struct m13_reactor *reactor, struct m13_packet *packet)
{
    struct m13_frag_message message;
    uint32_t index;
    if (!m13_reassemble(&reactor->path, packet, &message))
        return;
    if (!m13_slab_take(&reactor->wholes_free, &index, 1)) {
        m13_drop(&reactor->path, packet, M13_DROP_tun_ring_full);
        return;
    }
    m13_reassembled(packet, (void *)m13_reactor_whole_frame(reactor, index), &message);
    release(reactor, packet->index);
    packet->index = M13_REACTOR_ARRIVALS + index;
}

static void dispatch(struct m13_reactor *reactor)
{
    struct m13_path *path = &reactor->path;
    for (uint32_t i = 0; i < reactor->inward.count; i++) {
        struct m13_packet *packet = &reactor->inward.packets[i];
        if (packet->verdict == M13_TO_REASSEMBLE)
            reassemble(reactor, packet);
        bool is_data = packet->verdict == M13_TO_TUN || packet->verdict == M13_TO_RELAY;
        if (is_data && !m13_deliver_check(path, packet))
            continue;
        if (is_data && path->config.relay && m13_relay(path, packet)) {
            send_relayed(reactor, packet);
        } else if (is_data && path->config.echo) {
            echo(reactor, packet);
            packet->verdict = M13_DONE;
        } else if (packet->verdict == M13_TO_CONTROL) {
            m13_control_receive(path, packet);
        } else if (packet->verdict == M13_TO_REGISTER) {
            (path->config.is_hub ? m13_hub_register : m13_node_echo)(path, packet);
        } else if (packet->verdict == M13_TO_HANDSHAKE) {
            (path->config.is_hub ? m13_hub_fragment : m13_node_fragment)(path, packet);
        }
    }
    write_vector(reactor);
    m13_goodbye_settle(path);
    for (uint32_t i = 0; i < reactor->inward.count; i++)
        if (reactor->inward.packets[i].verdict != M13_KEPT)
            release(reactor, reactor->inward.packets[i].index);
}

static uint64_t stage_done(struct m13_reactor *reactor, enum m13_stage stage, uint64_t since)
{
    uint64_t now = m13_clock_cycles();
    m13_stats_stage(reactor->path.stats, stage, now - since, reactor->inward.count);
    return now;
}

static void work_vector(struct m13_reactor *reactor)
{
    if (!reactor->inward.count)
        return;
    uint64_t cycles = m13_clock_cycles();
    m13_stats_add(reactor->path.stats, M13_STAT_received_packets, reactor->inward.count);
    m13_parse(&reactor->path, &reactor->inward);
    cycles = stage_done(reactor, M13_STAGE_parse, cycles);
    m13_open(&reactor->path, &reactor->inward);
    cycles = stage_done(reactor, M13_STAGE_open, cycles);
    m13_classify(&reactor->path, &reactor->inward);
    cycles = stage_done(reactor, M13_STAGE_classify, cycles);
    dispatch(reactor);
    (void)stage_done(reactor, M13_STAGE_deliver, cycles);
    reactor->inward.count = 0;
}

static void add_frames(struct m13_reactor *reactor, uint32_t index)
{
    struct m13_arrival *arrival = &reactor->arrivals[index];
    /* a train that would be torn by the vector's end begins a fresh one: its packets belong
     * together, and are written together */
    if (reactor->inward.count * arrival->frame_bytes + arrival->bytes >
        M13_VECTOR_PACKETS * arrival->frame_bytes)
        work_vector(reactor);
    uint32_t at = 0;
    do { /* an empty datagram is a packet too, a short one */
        uint32_t left = arrival->bytes - at;
        reactor->inward.packets[reactor->inward.count++] =
            (struct m13_packet){.frame = (void *)(arrival->frames + at),
                                .index = index,
                                .bytes = left < arrival->frame_bytes ? left : arrival->frame_bytes,
                                .peer = M13_PEER_NONE,
                                .verdict = M13_TO_OPEN,
                                .source = arrival->source};
        arrival->held++;
        if (reactor->inward.count == M13_VECTOR_PACKETS)
            work_vector(reactor);
        at += arrival->frame_bytes;
    } while (at < arrival->bytes);
}

void m13_reactor_inward(struct m13_reactor *reactor)
{
    reactor->inward.count = 0;
    while (reactor->arrived_head != reactor->arrived_tail) {
        /* the vector's frames may each need a write too, or end a packet in pieces */
        uint32_t writes = M13_REACTOR_WRITES_ARRIVAL + reactor->inward.count;
        if (reactor->writes_free.count_free < writes || reactor->wholes_free.count_free < writes)
            break;
        uint32_t index = reactor->arrived[reactor->arrived_head++ % M13_REACTOR_ARRIVALS];
        add_frames(reactor, index);
        release(reactor, index);
    }
    work_vector(reactor);
}
