/* The reactor's thread: completions, what they ask for, submissions in one call, turn after turn.
 */
#include <errno.h>

#include "capability.h"
#include "reactor.h"

#define RETRY_NS     (20 * M13_MILLISECOND_NS)
#define COME_HOME_NS (50 * M13_MILLISECOND_NS) /* for sends and writes that are under way */

static void tun_read(struct m13_reactor *reactor, const struct io_uring_cqe *completion)
{
    if (!(completion->flags & IORING_CQE_F_MORE))
        reactor->tun_armed = false;
    if (completion->res == -EINVAL && !reactor->single_reads)
        reactor->single_reads = true;
    else if (completion->res < 0 && completion->res != -ENOBUFS)
        reactor->tun_retry_ns = reactor->path.now_ns + RETRY_NS;
    m13_reactor_read(reactor, completion);
}

static void completed(struct m13_reactor *reactor, const struct io_uring_cqe *completion)
{
    uint64_t tag = io_uring_cqe_get_data64(completion);
    uint32_t index = (uint32_t)tag;
    switch ((enum m13_reactor_tag)(tag >> 32)) {
    case M13_TAG_RECEIVE:
        m13_reactor_received(reactor, completion);
        break;
    case M13_TAG_RECEIVE_L2:
        m13_reactor_received_l2(reactor, completion);
        break;
    case M13_TAG_READ:
        tun_read(reactor, completion);
        break;
    case M13_TAG_WRITE:
        m13_reactor_written(reactor, index, completion->res);
        break;
    case M13_TAG_CONTROL:
        m13_reactor_control_sent(reactor, index, completion->res);
        break;
    case M13_TAG_TRAIN:
        m13_reactor_train_sent(reactor, index, completion->res);
        break;
    case M13_TAG_ANSWERS:
        if (!(completion->flags & IORING_CQE_F_MORE))
            reactor->answers_armed = false;
        m13_thread_drain(reactor->path.channel->answer_fd);
        break;
    case M13_TAG_STOP:
        break;
    }
}

/* Takes completions up to the batch; the rest stay in the ring. */
static uint32_t drain(struct m13_reactor *reactor)
{
    struct io_uring_cqe *completion;
    uint32_t count = 0;
    while (count < M13_REACTOR_TURN_COMPLETIONS &&
           !io_uring_peek_cqe(&reactor->uring.ring, &completion)) {
        completed(reactor, completion);
        io_uring_cqe_seen(&reactor->uring.ring, completion);
        count++;
    }
    return count;
}

static void arm_requests(struct m13_reactor *reactor)
{
    uint64_t now = reactor->path.now_ns;
    bool may_receive = reactor->lent_arrivals && now >= reactor->receive_retry_ns;
    if (!reactor->l2_armed && reactor->config.path.l2 && may_receive)
        reactor->l2_armed =
            !m13_uring_receive_multishot(&reactor->uring, M13_FILE_L2, &reactor->receive_shape,
                                         &reactor->arrival_group, M13_TAG(M13_TAG_RECEIVE_L2, 0));
    if (!reactor->receive_armed && reactor->config.socket_fd >= 0 && may_receive)
        reactor->receive_armed =
            !m13_uring_receive_multishot(&reactor->uring, M13_FILE_SOCKET, &reactor->receive_shape,
                                         &reactor->arrival_group, M13_TAG(M13_TAG_RECEIVE, 0));
    if (!reactor->tun_armed && reactor->lent_reads && now >= reactor->tun_retry_ns)
        reactor->tun_armed = !m13_uring_read(&reactor->uring, M13_FILE_TUN, &reactor->read_group,
                                             !reactor->single_reads, M13_TAG(M13_TAG_READ, 0));
    if (!reactor->answers_armed)
        reactor->answers_armed = !m13_uring_poll_multishot(
            &reactor->uring, reactor->path.channel->answer_fd, M13_TAG(M13_TAG_ANSWERS, 0));
}

/* Timers are looked at ten times per keepalive interval; by a node in a handshake a hundred times a
 * second. */
static void tick(struct m13_reactor *reactor)
{
    struct m13_path *path = &reactor->path;
    if (path->now_ns < reactor->next_tick_ns)
        return;
    if (path->config.is_hub)
        m13_hub_tick(path);
    else
        m13_node_tick(path, &path->peers.slots[0]);
    uint64_t wait = path->keepalive_ns / 10;
    bool in_handshake = !path->config.is_hub && !path->peers.slots[0].current;
    uint64_t wait_max = (in_handshake ? 10 : 100) * M13_MILLISECOND_NS;
    reactor->next_tick_ns = path->now_ns + (wait < wait_max ? wait : wait_max);
    m13_stats_gauge(path->stats, M13_GAUGE_slab_free, reactor->controls_free.count_free);
    m13_stats_gauge(path->stats, M13_GAUGE_slab_count, reactor->controls_free.count);
    m13_stats_gauge(path->stats, M13_GAUGE_fill_outstanding, reactor->lent_arrivals);
    m13_stats_gauge(path->stats, M13_GAUGE_fill_least, reactor->least_arrivals);
    m13_stats_gauge(path->stats, M13_GAUGE_transmit_outstanding,
                    M13_REACTOR_TRAINS - reactor->trains_free.count_free);
    m13_stats_gauge(path->stats, M13_GAUGE_tun_outstanding, reactor->lent_reads);
    m13_report_peers(path);
}

/* Submits everything of the turn and sleeps until a completion or the next tick. */
static void submit_and_wait(struct m13_reactor *reactor, bool wait)
{
    struct io_uring_cqe *completion;
    uint64_t now = m13_clock_now_ns();
    uint64_t nap = wait && reactor->next_tick_ns > now ? reactor->next_tick_ns - now : 0;
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(nap / M13_SECOND_NS),
                                        .tv_nsec = (int64_t)(nap % M13_SECOND_NS)};
    m13_uring_publish(&reactor->arrival_group);
    m13_uring_publish(&reactor->read_group);
    if (nap) {
        m13_stats_add(reactor->path.stats, M13_STAT_sleeps, 1);
        io_uring_submit_and_wait_timeout(&reactor->uring.ring, &completion, 1, &timeout, NULL);
    } else {
        io_uring_submit_and_get_events(&reactor->uring.ring);
    }
}

static int start(struct m13_reactor *reactor)
{
    const int files[M13_FILE_COUNT] = {[M13_FILE_SOCKET] = reactor->config.socket_fd,
                                       [M13_FILE_TUN] = reactor->config.tun_fd,
                                       [M13_FILE_L2] = reactor->config.l2_fd};
    int error = m13_uring_init(&reactor->uring, reactor->config.sqpoll);
    if (!error)
        error = io_uring_register_files(&reactor->uring.ring, files, M13_FILE_COUNT);
    if (!error)
        error = m13_uring_group_init(&reactor->uring, &reactor->arrival_group);
    if (!error)
        error = m13_uring_group_init(&reactor->uring, &reactor->read_group);
    if (!error)
        error =
            m13_uring_poll_multishot(&reactor->uring, reactor->stop_fd, M13_TAG(M13_TAG_STOP, 0));
    if (error)
        return error;
    for (uint32_t index = 0; index < M13_REACTOR_ARRIVALS; index++)
        m13_uring_lend(&reactor->arrival_group, index);
    for (uint32_t index = 0; index < M13_REACTOR_READS; index++)
        m13_uring_lend(&reactor->read_group, index);
    reactor->patience.core = reactor->config.core;
    reactor->lent_arrivals = reactor->least_arrivals = M13_REACTOR_ARRIVALS;
    reactor->lent_reads = M13_REACTOR_READS;
    reactor->path.outlet = (struct m13_outlet){.owner = reactor,
                                               .take = m13_reactor_take_control,
                                               .send = m13_reactor_send_control,
                                               .tun_fd = reactor->config.tun_fd};
    return 0;
}

static void turn(struct m13_reactor *reactor)
{
    reactor->path.now_ns = m13_clock_now_ns();
    m13_stats_add(reactor->path.stats, M13_STAT_loops, 1);
    uint32_t work = drain(reactor);
    m13_reactor_inward(reactor);
    m13_reactor_outward(reactor);
    work += reactor->path.config.is_hub ? m13_hub_answers(&reactor->path)
                                        : m13_node_answers(&reactor->path);
    tick(reactor);
    arm_requests(reactor);
    submit_and_wait(reactor, m13_patience_is_over(&reactor->patience, work, reactor->path.now_ns));
}

/* A turn of an end that leaves: it only receives, and delivers. */
static void last_turn(struct m13_reactor *reactor, uint64_t until_ns)
{
    reactor->tun_retry_ns = UINT64_MAX; /* not asked for packets any more */
    reactor->next_tick_ns = until_ns;
    arm_requests(reactor);
    submit_and_wait(reactor, true);
    reactor->path.now_ns = m13_clock_now_ns();
    (void)drain(reactor);
    m13_reactor_drop_reads(reactor);
    m13_reactor_inward(reactor);
    m13_reactor_outward(reactor); /* an open train of echoes, nothing else */
}

static bool is_under_way(const struct m13_reactor *reactor)
{
    return reactor->arrived_head != reactor->arrived_tail ||
           reactor->controls_free.count_free < reactor->controls_free.count ||
           reactor->trains_free.count_free < reactor->trains_free.count ||
           reactor->writes_free.count_free < reactor->writes_free.count;
}

/* Says goodbye, and waits for every buffer that is sent or written. */
static void leave(struct m13_reactor *reactor)
{
    struct m13_path *path = &reactor->path;
    path->now_ns = m13_clock_now_ns();
    m13_goodbye_begin(path);
    while (m13_goodbye_goes_on(path))
        last_turn(reactor, path->leaving.until_ns);
    uint64_t until_ns = path->now_ns + COME_HOME_NS;
    while (is_under_way(reactor) && path->now_ns < until_ns)
        last_turn(reactor, until_ns);
}

int m13_reactor_run(struct m13_reactor *reactor)
{
    m13_thread_begin("m13-reactor", reactor->config.core);
    int error = start(reactor);
    if (!error) /* not before: io_uring may be root's alone here */
        error = m13_capability_forgo();
    while (!error && !atomic_load_explicit(&reactor->stop, memory_order_relaxed))
        turn(reactor);
    if (!error)
        leave(reactor);
    m13_uring_group_fini(&reactor->uring, &reactor->arrival_group);
    m13_uring_group_fini(&reactor->uring, &reactor->read_group);
    m13_uring_fini(&reactor->uring);
    return error;
}
