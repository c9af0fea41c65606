/* The node's reactor: completions in three passes, submissions in one call. */
#include "node_worker.h"

#include <errno.h>

#include "thread.h"

#define RETRY_NS (20 * M13_MILLISECOND_NS)

void m13_node_send_home(struct m13_node *node, uint32_t index)
{
    if (index < M13_NODE_FRAMES_CONTROL) {
        m13_slab_give(&node->control, &index, 1);
    } else {
        m13_uring_lend(&node->receive_group, index);
        node->lent_receive++;
    }
}

/* --- submissions --------------------------------------------------------------------------------
 */

static struct m13_wire_frame *take_frame(void *owner, uint32_t *index)
{
    struct m13_node *node = owner;
    return m13_slab_take(&node->control, index, 1) ? (void *)m13_node_frame(node, *index) : NULL;
}

static void send_control(void *owner, const struct m13_endpoint *to, uint32_t index, uint32_t bytes)
{
    struct m13_node *node = owner;
    struct m13_control_send *send = &node->control_sends[index];
    struct io_uring_sqe *entry = m13_uring_entry(&node->uring);
    (void)to; /* there is one peer, the hub */
    if (!entry) {
        m13_stats_drop(node->path.stats, M13_DROP_send_failed);
        m13_node_send_home(node, index);
        return;
    }
    if (node->path.config.hexdump)
        m13_report_frame(&node->path, NULL, (void *)m13_node_frame(node, index), bytes, true);
    send->piece = (struct iovec){.iov_base = m13_node_frame(node, index), .iov_len = bytes};
    send->message = (struct msghdr){.msg_name = &node->config.hub,
                                    .msg_namelen = sizeof node->config.hub,
                                    .msg_iov = &send->piece,
                                    .msg_iovlen = 1};
    io_uring_prep_sendmsg(entry, node->config.socket_fd, &send->message, 0);
    io_uring_sqe_set_data64(entry, M13_TAG(M13_TAG_SEND, index));
    m13_stats_add(node->path.stats, M13_STAT_sends, 1);
    m13_stats_add(node->path.stats, M13_STAT_sent_packets, 1);
    m13_stats_add(node->path.stats, M13_STAT_sent_bytes, bytes);
}

static void arm_requests(struct m13_node *node)
{
    uint64_t now = node->path.now_ns;
    if (!node->receive_armed && node->lent_receive && now >= node->receive_retry_ns)
        node->receive_armed =
            !m13_uring_receive_multishot(&node->uring, node->config.socket_fd, &node->receive_group,
                                         M13_TAG(M13_TAG_RECEIVE, 0));
    if (!node->tun_armed && node->lent_reads && now >= node->tun_retry_ns)
        node->tun_armed = !m13_uring_read(&node->uring, node->config.tun_fd, &node->tun_group,
                                          !node->single_reads, M13_TAG(M13_TAG_READ, 0));
    if (!node->answers_armed)
        node->answers_armed = !m13_uring_poll_multishot(&node->uring, node->path.channel->answer_fd,
                                                        M13_TAG(M13_TAG_ANSWERS, 0));
}

/* --- pass 0: drain and sort ----------------------------------------------------------------------
 */

static void received(struct m13_node *node, const struct io_uring_cqe *completion)
{
    if (!(completion->flags & IORING_CQE_F_MORE))
        node->receive_armed = false;
    if (completion->res < 0) {
        /* -ENOBUFS: all buffers in hand, armed again when one is back. ICMP never ends the request:
         * the socket is not connected, so the kernel reports none to it. */
        if (completion->res != -ENOBUFS)
            node->receive_retry_ns = node->path.now_ns + RETRY_NS;
        return;
    }
    if (!(completion->flags & IORING_CQE_F_BUFFER))
        return;
    uint32_t index = completion->flags >> IORING_CQE_BUFFER_SHIFT;
    node->lent_receive--;
    node->inward.packets[node->inward.count++] = (struct m13_packet){
        .frame = (void *)(m13_node_frame(node, index) + node->receive_group.buffer_offset),
        .index = index,
        .bytes = (uint32_t)completion->res,
        .peer = M13_PEER_NONE,
        .verdict = M13_TO_OPEN};
    m13_stats_add(node->path.stats, M13_STAT_received_packets, 1);
    m13_stats_add(node->path.stats, M13_STAT_received_bytes, (uint64_t)completion->res);
}

static void tun_read(struct m13_node *node, const struct io_uring_cqe *completion)
{
    if (!(completion->flags & IORING_CQE_F_MORE))
        node->tun_armed = false;
    if (completion->res == -EINVAL && !node->single_reads)
        node->single_reads = true;
    else if (completion->res < 0 && completion->res != -ENOBUFS)
        node->tun_retry_ns = node->path.now_ns + RETRY_NS;
    m13_node_read(node, completion);
}

static void completed(struct m13_node *node, const struct io_uring_cqe *completion)
{
    uint64_t tag = io_uring_cqe_get_data64(completion);
    uint32_t index = (uint32_t)tag;
    switch ((enum m13_node_tag)(tag >> 32)) {
    case M13_TAG_RECEIVE:
        received(node, completion);
        break;
    case M13_TAG_READ:
        tun_read(node, completion);
        break;
    case M13_TAG_WRITE:
        m13_node_written(node, index, completion->res);
        break;
    case M13_TAG_SEND:
        if (completion->res < 0)
            m13_stats_drop(node->path.stats, M13_DROP_send_failed);
        m13_node_send_home(node, index);
        break;
    case M13_TAG_TRAIN:
        m13_node_train_sent(node, index, completion->res);
        break;
    case M13_TAG_ANSWERS:
        if (!(completion->flags & IORING_CQE_F_MORE))
            node->answers_armed = false;
        m13_thread_drain(node->path.channel->answer_fd);
        break;
    case M13_TAG_STOP:
        break;
    }
}

/* Takes completions until the batch or the vector is full; the rest stay in the ring. */
static uint32_t drain(struct m13_node *node)
{
    struct io_uring_cqe *completion;
    uint32_t count = 0;
    node->inward.count = 0;
    while (count < M13_NODE_CQE_BATCH && node->inward.count < M13_VECTOR_PACKETS &&
           !io_uring_peek_cqe(&node->uring.ring, &completion)) {
        completed(node, completion);
        io_uring_cqe_seen(&node->uring.ring, completion);
        count++;
    }
    return count;
}

/* --- passes 1 and 2
 * -------------------------------------------------------------------------------- */

static uint64_t stage_done(struct m13_node *node, enum m13_stage stage, uint64_t since,
                           uint32_t packets)
{
    uint64_t now = m13_clock_cycles();
    m13_stats_stage(node->path.stats, stage, now - since, packets);
    return now;
}

/* --echo: a tunnel packet goes back where it came from, its addresses swapped. */
static void echo(struct m13_node *node, const struct m13_packet *packet)
{
    uint32_t bytes = packet->frame->header.payload_bytes;
    struct m13_packet answer = {.peer = packet->peer,
                                .session = node->path.peers.slots[packet->peer].current};
    struct m13_wire_frame *frame = answer.session ? m13_node_append(node, bytes, &answer) : NULL;
    if (!frame)
        return;
    memcpy(frame->payload, packet->frame->payload, bytes);
    const struct m13_wire_ipv4 *asked = (const void *)packet->frame->payload;
    struct m13_wire_ipv4 *ip = (void *)frame->payload;
    ip->source = asked->destination;
    ip->destination = asked->source;
}

static void dispatch(struct m13_node *node)
{
    for (uint32_t i = 0; i < node->inward.count; i++) {
        struct m13_packet *packet = &node->inward.packets[i];
        if (packet->verdict == M13_TO_TUN && m13_deliver_check(&node->path, packet)) {
            if (!node->path.config.echo)
                continue;
            echo(node, packet);
            packet->verdict = M13_DONE;
        } else if (packet->verdict == M13_TO_CONTROL) {
            m13_control_receive(&node->path, packet);
        } else if (packet->verdict == M13_TO_REGISTER) {
            m13_node_echo(&node->path, packet);
        } else if (packet->verdict == M13_TO_HANDSHAKE) {
            m13_node_fragment(&node->path, packet);
        }
    }
    m13_node_write(node);
    for (uint32_t i = 0; i < node->inward.count; i++)
        if (node->inward.packets[i].verdict != M13_KEPT)
            m13_node_send_home(node, node->inward.packets[i].index);
}

static void process_inward(struct m13_node *node)
{
    uint32_t count = node->inward.count;
    if (!count)
        return;
    uint64_t cycles = m13_clock_cycles();
    m13_parse(&node->path, &node->inward);
    cycles = stage_done(node, M13_STAGE_parse, cycles, count);
    m13_open(&node->path, &node->inward);
    cycles = stage_done(node, M13_STAGE_open, cycles, count);
    m13_classify(&node->path, &node->inward);
    cycles = stage_done(node, M13_STAGE_classify, cycles, count);
    dispatch(node);
    stage_done(node, M13_STAGE_deliver, cycles, count);
}

/* --- time
 * ------------------------------------------------------------------------------------------- */

static void tick(struct m13_node *node)
{
    struct m13_path *path = &node->path;
    if (path->now_ns < node->next_tick_ns)
        return;
    m13_node_tick(path, &path->peers.slots[0]);
    /* timers are looked at ten times per keepalive interval, a hundred a second in a handshake */
    uint64_t wait = path->keepalive_ns / 10;
    uint64_t wait_max = (path->peers.slots[0].current ? 100 : 10) * M13_MILLISECOND_NS;
    node->next_tick_ns = path->now_ns + (wait < wait_max ? wait : wait_max);
    m13_stats_gauge(path->stats, M13_GAUGE_slab_free, node->control.count_free);
    m13_stats_gauge(path->stats, M13_GAUGE_slab_count, node->control.count);
    m13_stats_gauge(path->stats, M13_GAUGE_fill_outstanding, node->lent_receive);
    m13_stats_gauge(path->stats, M13_GAUGE_tun_outstanding, node->lent_reads);
    m13_report_peers(path);
}

/* Submits everything of the turn and sleeps until a completion or the next tick. */
static void submit_and_wait(struct m13_node *node, bool wait)
{
    struct io_uring_cqe *completion;
    uint64_t now = m13_clock_now_ns();
    uint64_t nap = wait && node->next_tick_ns > now ? node->next_tick_ns - now : 0;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(nap / M13_SECOND_NS),
                                        .tv_nsec = (int64_t)(nap % M13_SECOND_NS)};
    m13_uring_publish(&node->receive_group);
    m13_uring_publish(&node->tun_group);
    if (nap) {
        m13_stats_add(node->path.stats, M13_STAT_sleeps, 1);
        io_uring_submit_and_wait_timeout(&node->uring.ring, &completion, 1, &timeout, NULL);
    } else {
        io_uring_submit_and_get_events(&node->uring.ring);
    }
}

static int start(struct m13_node *node)
{
    int error = m13_uring_init(&node->uring, node->config.sqpoll);
    if (!error)
        error = m13_uring_group_init(&node->uring, &node->receive_group);
    if (!error)
        error = m13_uring_group_init(&node->uring, &node->tun_group);
    if (!error)
        error = m13_uring_poll_multishot(&node->uring, node->stop_fd, M13_TAG(M13_TAG_STOP, 0));
    if (error)
        return error;
    for (uint32_t index = M13_NODE_FRAMES_CONTROL; index < M13_NODE_FRAMES; index++)
        m13_node_send_home(node, index);
    for (uint32_t index = 0; index < M13_NODE_READS; index++)
        m13_uring_lend(&node->tun_group, index);
    node->lent_reads = M13_NODE_READS;
    node->path.outlet =
        (struct m13_outlet){.owner = node, .take = take_frame, .send = send_control};
    return 0;
}

int m13_node_run(struct m13_node *node)
{
    m13_thread_begin("m13-reactor", node->config.core);
    int error = start(node);
    while (!error && !atomic_load_explicit(&node->stop, memory_order_relaxed)) {
        node->path.now_ns = m13_clock_now_ns();
        m13_stats_add(node->path.stats, M13_STAT_loops, 1);
        uint32_t work = drain(node);
        process_inward(node);
        m13_node_outward(node);
        work += m13_node_answers(&node->path);
        tick(node);
        arm_requests(node);
        submit_and_wait(node, !work);
    }
    m13_uring_group_fini(&node->uring, &node->receive_group);
    m13_uring_group_fini(&node->uring, &node->tun_group);
    m13_uring_fini(&node->uring);
    return error;
}
