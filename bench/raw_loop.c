/* A tunnel's kernel interfaces and nothing else: what is left when the tunnel is taken away.
 *
 *   raw_loop socket|xdp TUN INTERFACE LOCAL_ADDRESS PEER_ADDRESS PEER_MAC SECONDS
 *
 * Both ends are this program. A packet read from the TUN is the payload of a UDP datagram to the
 * other end, and back; no header of ours, no session, no encryption. "socket" sends and receives
 * trains (UDP_SEGMENT, UDP_GRO) on a UDP socket by plain system calls, "xdp" frames on an AF_XDP
 * socket of queue 0, in copy mode. Large packets of the TUN are cut and joined by the core's own
 * code, without which no packet of it would fit the wire. Ends by itself after SECONDS. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <net/if.h>
#include <poll.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "checksum.h"
#include "offload.h"
#include "wire.h"
#include "xdp.h"

#define PORT          51999
#define BUFFER_BYTES  (M13_OFFLOAD_HEADER_BYTES + M13_OFFLOAD_PACKET_MAX)
#define TRAIN_BYTES   65000
#define TRAIN_FRAMES  64 /* UDP_MAX_SEGMENTS of kernels before 6.9 */
#define TURN          32 /* reads, or receives, before the other way has its turn */
#define SOCKET_BYTES  (8 << 20)
#define FRAME_BYTES   4096
#define FRAMES        4096
#define RING          2048
#define LARGEST_CUT   256 /* frames that must be free before the TUN is read */
#define VECTOR        64
#define KICKS_MAX     64
#define SECONDS_MAX   600
#define NICE          (-15) /* as M13's threads: on a shared core who waits loses packets */
#define HEADERS_BYTES M13_WIRE_OUTER_BYTES

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct loop {
    int tun, socket; /* socket: of either kind */
    uint8_t *buffer, *train;
    uint32_t train_bytes, train_frames, segment_bytes;
    struct m13_merge_set set;
    struct m13_merge merges[M13_MERGE_FLOWS_MAX + 1], *fresh;
    uint32_t unused;
    /* AF_XDP */
    struct m13_xdp *xdp;
    uint8_t *memory, headers[HEADERS_BYTES];
    uint32_t free[FRAMES], free_count, lent;
    struct m13_xdp_frame frames[VECTOR];
    uint32_t frame_count;
};

static void require(bool condition, const char *what)
{
    if (!condition)
        err(EXIT_FAILURE, "%s", what);
}

/* --- towards the TUN ------------------------------------------------------------------------ */

/* A packet the TUN refuses is lost, as on any wire. */
static void write_merge(struct loop *loop, struct m13_merge *merge)
{
    m13_merge_finish(merge);
    if (writev(loop->tun, merge->pieces, (int)merge->count + 1) < 0)
        require(errno == EINVAL || errno == EAGAIN || errno == EIO, "write to the TUN");
}

static void join(struct loop *loop, uint8_t *packet, uint32_t bytes)
{
    if (m13_merge_join(&loop->set, packet, bytes, 0))
        return;
    struct m13_merge *leaving = m13_merge_open(&loop->set, loop->fresh, packet, bytes, 0);
    if (leaving)
        write_merge(loop, leaving);
    loop->fresh = leaving ? leaving : &loop->merges[--loop->unused];
}

static void begin_joining(struct loop *loop)
{
    loop->set = (struct m13_merge_set){.udp_stays_alone = false};
    loop->unused = M13_MERGE_FLOWS_MAX;
    loop->fresh = &loop->merges[M13_MERGE_FLOWS_MAX];
}

static void finish_joining(struct loop *loop)
{
    for (uint32_t i = 0; i < loop->set.count; i++)
        write_merge(loop, loop->set.open[i]);
}

/* --- UDP socket ----------------------------------------------------------------------------- */

static bool receive_train(struct loop *loop)
{
    struct iovec vector = {loop->buffer, BUFFER_BYTES};
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t bytes = recvmsg(loop->socket, &message, MSG_DONTWAIT);
    if (bytes <= 0)
        return bytes == 0;
    int segment = (int)bytes;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
    begin_joining(loop);
    for (ssize_t at = 0; at < bytes; at += segment)
        join(loop, loop->buffer + at, (uint32_t)(bytes - at < segment ? bytes - at : segment));
    finish_joining(loop);
    return true;
}

static void send_train(struct loop *loop)
{
    struct iovec vector = {loop->train, loop->train_bytes};
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (loop->train_frames > 1) {
        uint16_t segment = (uint16_t)loop->segment_bytes;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof segment), .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT};
        memcpy(CMSG_DATA(head), &segment, sizeof segment);
    }
    if (loop->train_frames && sendmsg(loop->socket, &message, 0) < 0)
        require(errno == ENOBUFS || errno == ECONNREFUSED, "send");
    loop->train_bytes = loop->train_frames = 0;
}

/* Frames of one length make a train; a shorter one may be its last. */
static uint8_t *append(struct loop *loop, uint32_t bytes)
{
    bool is_closed = loop->train_bytes != loop->train_frames * loop->segment_bytes;
    if (loop->train_frames == TRAIN_FRAMES || loop->train_bytes + bytes > TRAIN_BYTES ||
        bytes > loop->segment_bytes || is_closed)
        send_train(loop);
    if (!loop->train_frames)
        loop->segment_bytes = bytes;
    uint8_t *place = loop->train + loop->train_bytes;
    loop->train_bytes += bytes;
    loop->train_frames++;
    return place;
}

static void open_socket(struct loop *loop, char **arguments)
{
    struct sockaddr_in ends[2] = {{.sin_family = AF_INET, .sin_port = htons(PORT)}};
    int on = 1, bytes = SOCKET_BYTES;
    ends[1] = ends[0];
    for (int i = 0; i < 2; i++)
        require(inet_pton(AF_INET, arguments[4 + i], &ends[i].sin_addr) == 1, arguments[4 + i]);
    loop->socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    require(loop->socket >= 0 && !bind(loop->socket, (struct sockaddr *)&ends[0], sizeof *ends) &&
                !connect(loop->socket, (struct sockaddr *)&ends[1], sizeof *ends) &&
                !setsockopt(loop->socket, SOL_UDP, UDP_GRO, &on, sizeof on) &&
                !setsockopt(loop->socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) &&
                !setsockopt(loop->socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes),
            "socket");
}

/* --- AF_XDP --------------------------------------------------------------------------------- */

static void refill(struct loop *loop)
{
    uint32_t space = m13_xdp_refill_space(loop->xdp), count = RING - loop->lent;
    count = count < space ? count : space;
    count = count < loop->free_count ? count : loop->free_count;
    loop->free_count -= count;
    loop->lent += count;
    m13_xdp_refill(loop->xdp, &loop->free[loop->free_count], count);
}

static bool receive_frames(struct loop *loop)
{
    struct m13_xdp_frame frames[VECTOR];
    uint32_t count = m13_xdp_receive(loop->xdp, frames, VECTOR);
    begin_joining(loop);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *data = loop->memory + frames[i].address;
        uint16_t port = htons(PORT);
        if (frames[i].length > HEADERS_BYTES && !memcmp(data + HEADERS_BYTES - 6, &port, 2))
            join(loop, data + HEADERS_BYTES, frames[i].length - HEADERS_BYTES);
    }
    finish_joining(loop);
    for (uint32_t i = 0; i < count; i++)
        loop->free[loop->free_count++] = m13_xdp_frame_number(loop->xdp, frames[i].address);
    loop->lent -= count;
    refill(loop);
    return count;
}

static void send_frames(struct loop *loop)
{
    m13_xdp_transmit(loop->xdp, loop->frames, loop->frame_count);
    loop->frame_count = 0;
    for (int i = 0; i < KICKS_MAX && m13_xdp_transmit_pending(loop->xdp); i++)
        m13_xdp_kick(loop->xdp);
    loop->free_count += m13_xdp_reclaim(loop->xdp, &loop->free[loop->free_count], RING);
}

static void put(uint8_t *field, uint32_t value)
{
    field[0] = (uint8_t)(value >> 8);
    field[1] = (uint8_t)value;
}

static uint8_t *take_frame(struct loop *loop, uint32_t bytes)
{
    if (loop->frame_count == VECTOR)
        send_frames(loop);
    uint64_t address = (uint64_t)loop->free[--loop->free_count] * FRAME_BYTES;
    uint8_t *headers = memcpy(loop->memory + address, loop->headers, HEADERS_BYTES);
    put(headers + 16, bytes + 28);
    put(headers + 38, bytes + 8);
    uint16_t sum = m13_checksum_fold(m13_checksum_words(0, headers + 14, 5));
    memcpy(headers + 24, &sum, sizeof sum);
    loop->frames[loop->frame_count++] =
        (struct m13_xdp_frame){.address = address, .length = bytes + HEADERS_BYTES};
    return headers + HEADERS_BYTES;
}

static void write_headers(struct loop *loop, char **arguments, const uint8_t *own_mac)
{
    uint8_t *headers = loop->headers, *mac = headers;
    static const uint8_t fixed[] = {0x08, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, IPPROTO_UDP};
    require(sscanf(arguments[6], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3,
                   mac + 4, mac + 5) == 6,
            arguments[6]);
    memcpy(headers + 6, own_mac, 6);
    memcpy(headers + 12, fixed, sizeof fixed);
    for (int i = 0; i < 2; i++)
        require(inet_pton(AF_INET, arguments[4 + i], headers + 26 + 4 * i) == 1, arguments[4 + i]);
    put(headers + 34, PORT);
    put(headers + 36, PORT);
}

/* Everything the interface receives: nobody but us has business on it. */
static void steer_all(const struct loop *loop, unsigned interface)
{
    int map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "raw_loop", 4, 4, 1, NULL), zero = 0;
    const struct bpf_insn program[] = {
        {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
        {.code = 0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = 0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    size_t count = sizeof program / sizeof *program;
    int loaded = bpf_prog_load(BPF_PROG_TYPE_XDP, "raw_loop", "GPL", program, count, NULL);
    require(map >= 0 && loaded >= 0 && !bpf_map_update_elem(map, &zero, &loop->xdp->fd, 0) &&
                bpf_link_create(loaded, (int)interface, BPF_XDP, NULL) >= 0,
            "XDP program");
}

static void open_xdp(struct loop *loop, char **arguments)
{
    struct ifreq request = {0};
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strncpy(request.ifr_name, arguments[3], IFNAMSIZ - 1);
    require(any >= 0 && !ioctl(any, SIOCGIFHWADDR, &request), arguments[3]);
    close(any);
    write_headers(loop, arguments, (const uint8_t *)request.ifr_hwaddr.sa_data);
    loop->memory = aligned_alloc(FRAME_BYTES, FRAMES * FRAME_BYTES);
    require(loop->memory, "memory");
    const struct m13_xdp_config config = {.interface = arguments[3],
                                          .umem = loop->memory,
                                          .umem_bytes = FRAMES * FRAME_BYTES,
                                          .frame_bytes = FRAME_BYTES,
                                          .fill_slots = RING,
                                          .completion_slots = RING,
                                          .receive_slots = RING,
                                          .transmit_slots = RING};
    errno = -m13_xdp_create(&loop->xdp, &config);
    require(!errno, "AF_XDP");
    loop->socket = loop->xdp->fd;
    for (; loop->free_count < FRAMES; loop->free_count++)
        loop->free[loop->free_count] = loop->free_count;
    refill(loop);
    steer_all(loop, if_nametoindex(arguments[3]));
}

/* --- from the TUN --------------------------------------------------------------------------- */

static bool read_tun(struct loop *loop)
{
    struct m13_split split;
    uint32_t bytes;
    if (loop->xdp && loop->free_count < LARGEST_CUT) {
        send_frames(loop);
        if (loop->free_count < LARGEST_CUT)
            return false;
    }
    ssize_t count = read(loop->tun, loop->buffer, BUFFER_BYTES);
    if (count <= 0 || !m13_split_begin(&split, loop->buffer, (uint32_t)count))
        return count > 0;
    while ((bytes = m13_split_next_bytes(&split)))
        m13_split_next(&split, loop->xdp ? take_frame(loop, bytes) : append(loop, bytes));
    return true;
}

static void open_tun(struct loop *loop, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    unsigned long features = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    loop->tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    require(loop->tun >= 0 && !ioctl(loop->tun, TUNSETIFF, &request), name);
    require(!ioctl(loop->tun, TUNSETOFFLOAD, features | TUN_F_USO4 | TUN_F_USO6), "TUN offloads");
}

static void run(struct loop *loop)
{
    struct pollfd waits[] = {{.fd = loop->tun, .events = POLLIN},
                             {.fd = loop->socket, .events = POLLIN}};
    for (;;) {
        bool is_busy = false, more = true;
        for (int i = 0; i < TURN && more; i++, is_busy |= more)
            more = loop->xdp ? receive_frames(loop) : receive_train(loop);
        more = true;
        for (int i = 0; i < TURN && more; i++, is_busy |= more)
            more = read_tun(loop);
        if (loop->xdp)
            send_frames(loop);
        else
            send_train(loop);
        bool is_full = loop->xdp && loop->free_count < LARGEST_CUT;
        if (!is_busy)
            poll(waits + is_full, 2 - is_full, is_full ? 1 : -1);
    }
}

int main(int count, char **arguments)
{
    static struct loop loop;
    long seconds = count == 8 ? strtol(arguments[7], NULL, 10) : 0;
    if (seconds < 1 || seconds > SECONDS_MAX)
        errx(2, "usage: raw_loop socket|xdp TUN INTERFACE LOCAL PEER PEER_MAC SECONDS");
    alarm((unsigned)seconds);
    require(!setpriority(PRIO_PROCESS, 0, NICE), "priority");
    loop.buffer = malloc(BUFFER_BYTES);
    loop.train = malloc(TRAIN_BYTES);
    require(loop.buffer && loop.train, "memory");
    open_tun(&loop, arguments[2]);
    if (strcmp(arguments[1], "xdp") == 0)
        open_xdp(&loop, arguments);
    else
        open_socket(&loop, arguments);
    run(&loop);
}
