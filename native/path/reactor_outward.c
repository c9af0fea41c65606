/* From the TUN to the socket: large packets are cut into trains of sealed frames, a train a send.
 * Control frames leave one by one. */
#include <errno.h>

#include "fragment.h"
#include "reactor.h"

/* --- sends --------------------------------------------------------------------------------------
 */

/* False: the ring takes no more, and the memory is the caller's still. */
static bool submit_send(struct m13_reactor *reactor, struct m13_reactor_send *send,
                        const struct m13_endpoint *to, uint16_t segment_bytes, uint64_t tag)
{
    struct io_uring_sqe *entry = m13_uring_entry(&reactor->uring);
    if (!entry) {
        m13_stats_drop(reactor->path.stats, M13_DROP_send_failed);
        return false;
    }
    enum m13_reactor_file file = m13_reactor_address_write(reactor, send, to, segment_bytes);
    io_uring_prep_sendmsg(entry, (int)file, &send->message, 0);
    entry->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(entry, tag);
    m13_stats_add(reactor->path.stats, M13_STAT_sends, 1);
    m13_stats_add(reactor->path.stats, M13_STAT_sent_bytes, send->piece.iov_len);
    return true;
}

struct m13_wire_frame *m13_reactor_take_control(void *owner, uint32_t *index)
{
    struct m13_reactor *reactor = owner;
    return m13_slab_take(&reactor->controls_free, index, 1)
               ? (void *)m13_reactor_control_frame(reactor, *index)
               : NULL;
}

void m13_reactor_send_control(void *owner, const struct m13_endpoint *to, uint32_t index,
                              uint32_t bytes)
{
    struct m13_reactor *reactor = owner;
    struct m13_reactor_send *send = &reactor->controls[index];
    uint8_t *frame = m13_reactor_control_frame(reactor, index);
    if (reactor->path.config.hexdump)
        m13_report_frame(&reactor->path, to, (void *)frame, bytes, true);
    send->piece = (struct iovec){.iov_base = frame, .iov_len = bytes};
    if (submit_send(reactor, send, to, 0, M13_TAG(M13_TAG_CONTROL, index)))
        m13_stats_add(reactor->path.stats, M13_STAT_sent_packets, 1);
    else
        m13_slab_give(&reactor->controls_free, &index, 1);
}

void m13_reactor_control_sent(struct m13_reactor *reactor, uint32_t index, int32_t result)
{
    if (result < 0)
        m13_stats_drop(reactor->path.stats,
                       result == -EMSGSIZE ? M13_DROP_link_mtu : M13_DROP_send_failed);
    m13_slab_give(&reactor->controls_free, &index, 1);
}

/* --- trains -------------------------------------------------------------------------------------
 */

static void send_train(struct m13_reactor *reactor, uint32_t index, uint32_t frames)
{
    struct m13_train *train = &reactor->trains[index];
    const struct m13_endpoint *to = &reactor->path.peers.slots[train->peer].endpoint;
    uint16_t segment_bytes = frames > 1 ? (uint16_t)train->frame_bytes : 0;
    train->send.piece = (struct iovec){.iov_base = train->memory, .iov_len = train->bytes};
    if (submit_send(reactor, &train->send, to, segment_bytes, M13_TAG(M13_TAG_TRAIN, index)))
        m13_stats_add(reactor->path.stats, M13_STAT_sent_packets, frames);
    else
        m13_slab_give(&reactor->trains_free, &index, 1);
}

/* Seals the frames of the open train and sends it. All are of one session: when its counter is
 * exhausted none is sealed, and none may leave. */
static void close_train(struct m13_reactor *reactor)
{
    struct m13_vector *frames = &reactor->outward;
    if (!frames->count)
        return;
    uint64_t cycles = m13_clock_cycles();
    m13_seal(&reactor->path, frames);
    uint64_t sealed = m13_clock_cycles();
    m13_stats_stage(reactor->path.stats, M13_STAGE_seal, sealed - cycles, frames->count);
    if (frames->packets[frames->count - 1].verdict == M13_TO_NETWORK) {
        if (reactor->path.config.hexdump)
            m13_report_frame(&reactor->path, NULL, frames->packets[0].frame,
                             frames->packets[0].bytes, true);
        send_train(reactor, reactor->train, frames->count);
    } else {
        m13_slab_give(&reactor->trains_free, &reactor->train, 1);
    }
    m13_stats_stage(reactor->path.stats, M13_STAGE_transmit, m13_clock_cycles() - sealed,
                    frames->count);
    frames->count = 0;
}

static bool fits(const struct m13_reactor *reactor, uint32_t bytes, const struct m13_packet *like)
{
    const struct m13_train *train = &reactor->trains[reactor->train];
    bool is_l2 = m13_endpoint_kind(&reactor->path.peers.slots[train->peer].endpoint) ==
                 M13_ENDPOINT_L2; /* nobody cuts a train there */
    uint32_t frames_max = reactor->segmentation_off || is_l2 ? 1 : M13_VECTOR_PACKETS;
    return !train->closed && like->peer == train->peer &&
           like->session == reactor->outward.packets[0].session && bytes <= train->frame_bytes &&
           reactor->outward.count < frames_max &&
           train->bytes + bytes <= M13_REACTOR_SEND_BYTES_MAX;
}

struct m13_wire_frame *m13_reactor_append(struct m13_reactor *reactor, uint32_t inner_bytes,
                                          const struct m13_packet *like)
{
    uint32_t bytes = inner_bytes + M13_WIRE_FRAME_BYTES;
    if (reactor->outward.count && !fits(reactor, bytes, like))
        close_train(reactor);
    if (!reactor->outward.count) {
        if (!m13_slab_take(&reactor->trains_free, &reactor->train, 1))
            return NULL;
        reactor->trains[reactor->train].bytes = 0;
        reactor->trains[reactor->train].frame_bytes = bytes;
        reactor->trains[reactor->train].peer = like->peer;
        reactor->trains[reactor->train].closed = false;
    }
    struct m13_train *train = &reactor->trains[reactor->train];
    struct m13_packet *packet = &reactor->outward.packets[reactor->outward.count++];
    packet->frame = (void *)(train->memory + train->bytes);
    packet->bytes = bytes;
    packet->peer = like->peer;
    packet->session = like->session;
    packet->verdict = M13_TO_NETWORK;
    packet->fragment = 0;
    train->bytes += bytes;
    train->closed = bytes < train->frame_bytes;
    return packet->frame;
}

/* One train is perhaps open already, the next holds the rest; unless each frame is sent alone. */
bool m13_reactor_may_fragment(const struct m13_reactor *reactor)
{
    uint32_t trains = reactor->segmentation_off ? M13_TUNNEL_FRAGMENTS_MAX : 2;
    return reactor->trains_free.count_free >= trains;
}

void m13_reactor_fragment(struct m13_reactor *reactor, uint32_t inner_bytes,
                          const struct m13_packet *like)
{
    struct m13_peer *peer = &reactor->path.peers.slots[like->peer];
    struct m13_fragments plan = m13_fragment_plan(peer, inner_bytes);
    struct m13_vector *frames = &reactor->outward;
    uint16_t id = 0;
    for (uint32_t index = 0; index < plan.total; index++) {
        uint32_t left = inner_bytes - index * plan.chunk_bytes;
        uint32_t chunk_bytes = left < plan.chunk_bytes ? left : plan.chunk_bytes;
        if (!m13_reactor_append(reactor, chunk_bytes + sizeof(struct m13_wire_fragment), like))
            return;
        if (!index)
            id = (uint16_t)(like->session->send_counter + frames->count - 1);
        m13_fragment_write(&frames->packets[frames->count - 1], &plan, id, index, reactor->oversize,
                           inner_bytes);
    }
    m13_fragment_count(&reactor->path, peer, &plan);
}

/* The interface's MTU became smaller. With UDP_SEGMENT some kernels say EINVAL for that. What the
 * kernel says of its own interfaces can be believed, unlike what ICMP says of others'. */
static bool is_too_large(const struct m13_train *train, int32_t result)
{
    return train->frame_bytes > M13_PMTU_FRAME_BYTES_MIN &&
           (result == -EMSGSIZE || (result == -EINVAL && train->bytes > train->frame_bytes));
}

void m13_reactor_train_sent(struct m13_reactor *reactor, uint32_t index, int32_t result)
{
    const struct m13_train *train = &reactor->trains[index];
    struct m13_peer *peer = &reactor->path.peers.slots[train->peer];
    if (is_too_large(train, result)) {
        m13_stats_drop(reactor->path.stats, M13_DROP_link_mtu);
        if (peer->pmtu.frame_bytes >= train->frame_bytes)
            m13_probe_restart(&reactor->path, peer);
    } else if (result < 0) {
        m13_stats_drop(reactor->path.stats, M13_DROP_send_failed);
    }
    /* an interface without checksum offload cannot cut for us (udp(7)) */
    if (result == -EIO && train->bytes > train->frame_bytes)
        reactor->segmentation_off = true;
    m13_slab_give(&reactor->trains_free, &index, 1);
}

/* --- reads --------------------------------------------------------------------------------------
 */

void m13_reactor_read(struct m13_reactor *reactor, const struct io_uring_cqe *completion)
{
    if (completion->res < 0 || !(completion->flags & IORING_CQE_F_BUFFER))
        return;
    /* the queue holds as many as there are buffers */
    uint32_t place = reactor->reads_tail++ % M13_REACTOR_READS;
    reactor->reads[place] = completion->flags >> IORING_CQE_BUFFER_SHIFT;
    reactor->read_bytes[place] = (uint32_t)completion->res;
    reactor->lent_reads--;
    m13_stats_add(reactor->path.stats, M13_STAT_tun_reads, 1);
}

static void finish_read(struct m13_reactor *reactor)
{
    uint32_t index = reactor->reads[reactor->reads_head++ % M13_REACTOR_READS];
    reactor->splitting = false;
    m13_uring_lend(&reactor->read_group, index);
    reactor->lent_reads++;
}

void m13_reactor_drop_reads(struct m13_reactor *reactor)
{
    while (reactor->reads_head != reactor->reads_tail) {
        m13_stats_drop(reactor->path.stats, M13_DROP_shutdown);
        finish_read(reactor);
    }
}

/* Finds peer and session for what is left of the packet being cut: while it waited for a train
 * they may have gone, or the slot may have become another's. */
static void find_peer(struct m13_reactor *reactor)
{
    m13_collect(&reactor->path, &reactor->large, reactor->split.packet, reactor->split.bytes,
                m13_split_next_bytes(&reactor->split));
    reactor->splitting = reactor->large.verdict != M13_DROPPED;
    if (!reactor->splitting)
        finish_read(reactor);
}

/* The next packet that was read and may be sent; those that may not go back at once. */
static bool begin_read(struct m13_reactor *reactor)
{
    if (reactor->splitting)
        find_peer(reactor);
    while (!reactor->splitting && reactor->reads_head != reactor->reads_tail) {
        uint32_t place = reactor->reads_head % M13_REACTOR_READS;
        uint8_t *data =
            reactor->read_group.arena + (uint64_t)reactor->reads[place] * M13_REACTOR_LARGE_BYTES;
        if (m13_split_begin(&reactor->split, data, reactor->read_bytes[place])) {
            find_peer(reactor);
        } else {
            m13_drop(&reactor->path, &reactor->large, M13_DROP_inner_header);
            finish_read(reactor);
        }
    }
    return reactor->splitting;
}

/* What trains that fill up cost so far: they leave in the middle of collecting, and are no part of
 * it. */
static uint64_t train_cycles(const struct m13_reactor *reactor)
{
    const uint64_t *cycles = reactor->path.stats->stage_cycles;
    return cycles[M13_STAGE_seal] + cycles[M13_STAGE_transmit];
}

/* The next packet of the read, so long; false: the trains are all on their way. */
static bool send_next(struct m13_reactor *reactor, uint32_t bytes)
{
    const struct m13_packet *large = &reactor->large;
    struct m13_peer *peer = &reactor->path.peers.slots[large->peer];
    if (bytes > peer->whole_bytes_max) {
        if (!m13_reactor_may_fragment(reactor))
            return false;
        m13_split_next(&reactor->split, reactor->oversize);
        m13_too_big_tell(&reactor->path, peer, reactor->oversize, bytes);
        m13_reactor_fragment(reactor, bytes, large);
        return true;
    }
    struct m13_wire_frame *frame = m13_reactor_append(reactor, bytes, large);
    if (frame)
        m13_split_next(&reactor->split, frame->payload);
    return frame;
}

void m13_reactor_outward(struct m13_reactor *reactor)
{
    uint64_t cycles = m13_clock_cycles() - train_cycles(reactor), total_bytes = 0;
    uint32_t count = 0, bytes;
    bool may_go_on = true;
    while (may_go_on && begin_read(reactor)) {
        while ((bytes = m13_split_next_bytes(&reactor->split))) {
            if (!send_next(reactor, bytes))
                break; /* the rest when a train comes home */
            total_bytes += bytes;
            count++;
        }
        may_go_on = !bytes;
        if (may_go_on)
            finish_read(reactor);
    }
    if (count) {
        m13_stats_stage(reactor->path.stats, M13_STAGE_collect,
                        m13_clock_cycles() - train_cycles(reactor) - cycles, count);
        m13_stats_add(reactor->path.stats, M13_STAT_tun_read_packets, count);
        m13_stats_add(reactor->path.stats, M13_STAT_tun_read_bytes, total_bytes);
    }
    close_train(reactor);
}
