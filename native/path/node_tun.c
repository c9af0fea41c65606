/* The node's side of the TUN: large packets cut into trains of sealed frames on the way out,
 * opened packets joined into large ones on the way in. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include "node_worker.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103 /* include/uapi/linux/udp.h */
#endif

/* --- out: read, cut, seal, send -----------------------------------------------------------------
 */

static uint8_t *read_memory(const struct m13_node *node, uint32_t index)
{
    return node->tun_group.arena + (uint64_t)index * M13_NODE_READ_BYTES;
}

void m13_node_read(struct m13_node *node, const struct io_uring_cqe *completion)
{
    if (completion->res < 0 || !(completion->flags & IORING_CQE_F_BUFFER))
        return;
    /* the queue holds as many as there are buffers */
    uint32_t place = node->reads_tail++ % M13_NODE_READS;
    node->reads[place] = completion->flags >> IORING_CQE_BUFFER_SHIFT;
    node->read_bytes[place] = (uint32_t)completion->res;
    node->lent_reads--;
    m13_stats_add(node->path.stats, M13_STAT_tun_reads, 1);
}

static void send_train(struct m13_node *node, uint32_t index, uint32_t frames)
{
    struct m13_train *train = &node->trains[index];
    struct io_uring_sqe *entry = m13_uring_entry(&node->uring);
    if (!entry) {
        m13_stats_drop(node->path.stats, M13_DROP_send_failed);
        m13_slab_give(&node->trains_free, &index, 1);
        return;
    }
    train->piece = (struct iovec){.iov_base = train->memory, .iov_len = train->bytes};
    train->message = (struct msghdr){.msg_name = &node->config.hub,
                                     .msg_namelen = sizeof node->config.hub,
                                     .msg_iov = &train->piece,
                                     .msg_iovlen = 1};
    if (frames > 1) {
        uint16_t segment = (uint16_t)train->frame_bytes;
        train->message.msg_control = train->control;
        train->message.msg_controllen = sizeof train->control;
        struct cmsghdr *control = CMSG_FIRSTHDR(&train->message);
        *control = (struct cmsghdr){.cmsg_level = IPPROTO_UDP,
                                    .cmsg_type = UDP_SEGMENT,
                                    .cmsg_len = CMSG_LEN(sizeof segment)};
        memcpy(CMSG_DATA(control), &segment, sizeof segment);
    }
    io_uring_prep_sendmsg(entry, node->config.socket_fd, &train->message, 0);
    io_uring_sqe_set_data64(entry, M13_TAG(M13_TAG_TRAIN, index));
    m13_stats_add(node->path.stats, M13_STAT_sends, 1);
    m13_stats_add(node->path.stats, M13_STAT_sent_packets, frames);
    m13_stats_add(node->path.stats, M13_STAT_sent_bytes, train->bytes);
}

/* Seals the frames of the open train and sends it. All are of one session: when its counter is
 * exhausted none is sealed, and none may leave. */
static void close_train(struct m13_node *node)
{
    struct m13_vector *frames = &node->outward;
    if (!frames->count)
        return;
    uint64_t cycles = m13_clock_cycles();
    m13_seal(&node->path, frames);
    uint64_t sealed = m13_clock_cycles();
    m13_stats_stage(node->path.stats, M13_STAGE_seal, sealed - cycles, frames->count);
    if (frames->packets[frames->count - 1].verdict == M13_TO_NETWORK) {
        if (node->path.config.hexdump)
            m13_report_frame(&node->path, NULL, frames->packets[0].frame, frames->packets[0].bytes,
                             true);
        send_train(node, node->train, frames->count);
    } else {
        m13_slab_give(&node->trains_free, &node->train, 1);
    }
    m13_stats_stage(node->path.stats, M13_STAGE_transmit, m13_clock_cycles() - sealed,
                    frames->count);
    frames->count = 0;
}

static bool fits(const struct m13_node *node, uint32_t bytes)
{
    const struct m13_train *train = &node->trains[node->train];
    uint32_t frames_max = node->segmentation_off ? 1 : M13_VECTOR_PACKETS;
    return !train->closed && bytes <= train->frame_bytes && node->outward.count < frames_max &&
           train->bytes + bytes <= M13_NODE_SEND_BYTES_MAX;
}

struct m13_wire_frame *m13_node_append(struct m13_node *node, uint32_t inner_bytes,
                                       const struct m13_packet *like)
{
    uint32_t bytes = inner_bytes + M13_WIRE_FRAME_BYTES;
    if (node->outward.count && !fits(node, bytes))
        close_train(node);
    if (!node->outward.count) {
        if (!m13_slab_take(&node->trains_free, &node->train, 1))
            return NULL;
        node->trains[node->train].bytes = 0;
        node->trains[node->train].frame_bytes = bytes;
        node->trains[node->train].closed = false;
    }
    struct m13_train *train = &node->trains[node->train];
    struct m13_packet *packet = &node->outward.packets[node->outward.count++];
    packet->frame = (void *)(train->memory + train->bytes);
    packet->bytes = bytes;
    packet->peer = like->peer;
    packet->session = like->session;
    packet->verdict = M13_TO_NETWORK;
    train->bytes += bytes;
    train->closed = bytes < train->frame_bytes;
    return packet->frame;
}

void m13_node_train_sent(struct m13_node *node, uint32_t index, int32_t result)
{
    if (result < 0)
        m13_stats_drop(node->path.stats, M13_DROP_send_failed);
    /* an interface without checksum offload cannot cut for us (udp(7)) */
    if (result == -EIO && node->trains[index].message.msg_controllen)
        node->segmentation_off = true;
    m13_slab_give(&node->trains_free, &index, 1);
}

static void finish_read(struct m13_node *node)
{
    uint32_t index = node->reads[node->reads_head++ % M13_NODE_READS];
    node->splitting = false;
    m13_uring_lend(&node->tun_group, index);
    node->lent_reads++;
}

/* The next packet that was read and may be sent; those that may not go back at once. */
static bool begin_read(struct m13_node *node)
{
    if (node->splitting) {
        /* the session may have gone or changed while the rest waited for a train */
        node->large.session = node->path.peers.slots[node->large.peer].current;
        if (!node->large.session) {
            m13_drop(&node->path, &node->large, M13_DROP_no_session);
            finish_read(node);
        }
    }
    while (!node->splitting && node->reads_head != node->reads_tail) {
        uint32_t place = node->reads_head % M13_NODE_READS;
        uint8_t *data = read_memory(node, node->reads[place]);
        if (m13_split_begin(&node->split, data, node->read_bytes[place]))
            m13_collect(&node->path, &node->large, node->split.packet, node->split.bytes,
                        m13_split_next_bytes(&node->split));
        else
            m13_drop(&node->path, &node->large, M13_DROP_inner_header);
        node->splitting = node->large.verdict == M13_TO_NETWORK;
        if (!node->splitting)
            finish_read(node);
    }
    return node->splitting;
}

void m13_node_outward(struct m13_node *node)
{
    uint64_t cycles = m13_clock_cycles(), total_bytes = 0;
    uint32_t count = 0, bytes;
    bool may_go_on = true;
    while (may_go_on && begin_read(node)) {
        while ((bytes = m13_split_next_bytes(&node->split))) {
            struct m13_wire_frame *frame = m13_node_append(node, bytes, &node->large);
            if (!frame)
                break; /* the rest when a train comes home */
            m13_split_next(&node->split, frame->payload);
            total_bytes += bytes;
            count++;
        }
        may_go_on = !bytes;
        if (may_go_on)
            finish_read(node);
    }
    if (count) {
        m13_stats_stage(node->path.stats, M13_STAGE_collect, m13_clock_cycles() - cycles, count);
        m13_stats_add(node->path.stats, M13_STAT_tun_read_packets, count);
        m13_stats_add(node->path.stats, M13_STAT_tun_read_bytes, total_bytes);
    }
    close_train(node);
}

/* --- in: join, write
 * ------------------------------------------------------------------------------ */

static void submit_write(struct m13_node *node, struct m13_merge *write)
{
    struct io_uring_sqe *entry = m13_uring_entry(&node->uring);
    uint32_t index = (uint32_t)(write - node->writes);
    m13_merge_finish(write);
    if (!entry) {
        m13_node_written(node, index, -EBUSY);
        return;
    }
    io_uring_prep_writev(entry, node->config.tun_fd, write->pieces, write->count + 1, 0);
    io_uring_sqe_set_data64(entry, M13_TAG(M13_TAG_WRITE, index));
    m13_stats_add(node->path.stats, M13_STAT_tun_writes, 1);
    m13_stats_add(node->path.stats, M13_STAT_tun_written_packets, write->count);
    m13_stats_add(node->path.stats, M13_STAT_tun_written_bytes, write->bytes);
}

void m13_node_write(struct m13_node *node)
{
    struct m13_merge_set set = {.udp_stays_alone = !node->path.config.large_udp};
    for (uint32_t i = 0; i < node->inward.count; i++) {
        struct m13_packet *packet = &node->inward.packets[i];
        if (packet->verdict != M13_TO_TUN)
            continue;
        uint8_t *inner = packet->frame->payload;
        uint32_t index, bytes = packet->frame->header.payload_bytes;
        packet->verdict = M13_KEPT;
        if (m13_merge_join(&set, inner, bytes, packet->index))
            continue;
        if (!m13_slab_take(&node->writes_free, &index, 1)) {
            m13_drop(&node->path, packet, M13_DROP_tun_ring_full);
            continue;
        }
        struct m13_merge *leaving =
            m13_merge_open(&set, &node->writes[index], inner, bytes, packet->index);
        if (leaving)
            submit_write(node, leaving);
    }
    for (uint32_t i = 0; i < set.count; i++)
        submit_write(node, set.open[i]);
}

void m13_node_written(struct m13_node *node, uint32_t index, int32_t result)
{
    const struct m13_merge *write = &node->writes[index];
    for (uint32_t i = 0; i < write->count; i++) {
        if (result < 0)
            m13_stats_drop(node->path.stats, M13_DROP_tun_write);
        m13_node_send_home(node, write->origin[i]);
    }
    m13_slab_give(&node->writes_free, &index, 1);
}
