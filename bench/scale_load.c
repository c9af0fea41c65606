/* Packets of many peers or of many flows at a steady rate, for bench/scale.py.
 *
 *     scale_load NETNS sealed HUB PORT FAR PEERS   frames of the peers in the file, from PORT too
 *     scale_load NETNS plain SOURCE FIRST            IP packets from SOURCE to FIRST and what
 * follows
 *
 * Each line "ENDS SPELL FLOWS PROTOCOL BYTES RATE MILLISECONDS" on standard input is one run,
 * answered by one line of JSON. The flows take turns packet by packet and have ports of their own;
 * flow f belongs to end f / SPELL % ENDS (a peer, or a destination), so SPELL packets in a row are
 * one end's. BYTES is the whole inner packet, PROTOCOL 17 (UDP) or 6 (TCP). PEERS is an array of
 * struct peer. Counters go on from run to run.
 *
 * A sender that is kept from the CPU forgets what it owes beyond LAG_MAX_NS rather than flooding.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "wire.h"

#define TICK_NS            100000
#define LAG_MAX_NS         2000000
#define SEND_BYTES         (4 << 20)
#define BATCH              64
#define SLOT_BYTES         2048
#define ENDS_MAX           256
#define FLOW_PORTS         50000 /* source ports of flows; more flows take further destination ports */
#define PORT_FIRST         1024
#define DESTINATION_PORT   40000
#define TIME_TO_LIVE       64
#define TCP_SEQUENCE_FIRST 1000

struct peer {
    uint8_t key[M13_WIRE_KEY_BYTES]; /* node to hub */
    uint64_t counter;                /* next nonce */
    uint32_t address;                /* outer, network order; as the next */
    uint32_t tunnel_address;
    uint8_t mac[6];
    uint8_t key_phase;
    uint8_t reserved;
};
_Static_assert(sizeof(struct peer) == 56, "as bench/scale_peers.py packs it");

struct load {
    bool is_sealed;
    int socket;
    uint32_t source, far; /* inner addresses, network order */
    struct sockaddr_in hub;
    struct peer *peers;
    uint32_t peer_count;
    EVP_CIPHER_CTX *contexts[ENDS_MAX];
    /* of the present run */
    uint32_t ends, spell, flows, bytes, flow;
    uint8_t protocol;
};

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_in to[BATCH];
    alignas(struct cmsghdr) uint8_t control[BATCH][CMSG_SPACE(sizeof(struct in_pktinfo))];
    alignas(16) uint8_t bytes[BATCH][SLOT_BYTES];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- one packet --------------------------------------------------------------------------------
 */

static uint16_t checksum(const uint8_t *data, uint32_t bytes, uint64_t sum)
{
    uint16_t word = 0;
    for (; bytes > 1; bytes -= 2, data += 2) {
        memcpy(&word, data, 2);
        sum += word;
    }
    if (bytes) {
        word = 0;
        memcpy(&word, data, 1);
        sum += word;
    }
    while (sum >> 16)
        sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint16_t)~sum;
}

static void write_transport(const struct load *load, uint8_t *packet, uint32_t source,
                            uint32_t destination)
{
    uint16_t from = htons((uint16_t)(PORT_FIRST + load->flow % FLOW_PORTS));
    uint16_t to = htons((uint16_t)(DESTINATION_PORT + load->flow / FLOW_PORTS));
    uint8_t *body = packet + sizeof(struct iphdr);
    uint32_t bytes = load->bytes - (uint32_t)sizeof(struct iphdr);
    uint64_t pseudo = (source & 0xFFFF) + (source >> 16) + (destination & 0xFFFF) +
                      (destination >> 16) + htons(load->protocol) + htons((uint16_t)bytes);
    if (load->protocol == IPPROTO_UDP) {
        struct udphdr udp = {.source = from, .dest = to, .len = htons((uint16_t)bytes)};
        memcpy(body, &udp, sizeof udp);
        udp.check = checksum(body, bytes, pseudo);
        memcpy(body, &udp, sizeof udp);
    } else {
        struct tcphdr tcp = {.source = from,
                             .dest = to,
                             .seq = htonl(TCP_SEQUENCE_FIRST),
                             .ack_seq = htonl(TCP_SEQUENCE_FIRST),
                             .doff = sizeof tcp / 4,
                             .ack = 1,
                             .window = htons(UINT16_MAX)};
        memcpy(body, &tcp, sizeof tcp);
        tcp.check = checksum(body, bytes, pseudo);
        memcpy(body, &tcp, sizeof tcp);
    }
}

static void write_inner(const struct load *load, uint8_t *packet, uint32_t source,
                        uint32_t destination)
{
    struct iphdr ip = {.version = 4,
                       .ihl = sizeof ip / 4,
                       .tot_len = htons((uint16_t)load->bytes),
                       .ttl = TIME_TO_LIVE,
                       .protocol = load->protocol,
                       .saddr = source,
                       .daddr = destination};
    ip.check = checksum((const uint8_t *)&ip, sizeof ip, 0);
    memcpy(packet, &ip, sizeof ip);
    write_transport(load, packet, source, destination);
}

static void seal(const struct load *load, uint32_t end, struct m13_wire_frame *frame)
{
    struct peer *peer = &load->peers[end];
    struct m13_wire_header *header = &frame->header;
    uint8_t *text = (uint8_t *)header + M13_WIRE_SEALED_OFFSET;
    int done = 0, sealed = (int)(M13_WIRE_HEADER_BYTES - M13_WIRE_SEALED_OFFSET + load->bytes);
    m13_wire_stamp(frame, peer->mac, M13_FLAG_TUNNEL, load->bytes, peer->counter);
    header->crypto_version = M13_WIRE_AEAD;
    header->nonce_counter = peer->counter++;
    header->key_phase = peer->key_phase;
    header->nonce_direction = M13_NODE_TO_HUB;
    EVP_CIPHER_CTX *context = load->contexts[end];
    if (!EVP_EncryptInit_ex2(context, NULL, NULL, (uint8_t *)&header->nonce_counter, NULL) ||
        !EVP_EncryptUpdate(context, NULL, &done, (uint8_t *)header, M13_WIRE_AAD_BYTES) ||
        !EVP_EncryptUpdate(context, text, &done, text, sealed) ||
        !EVP_EncryptFinal_ex(context, text + done, &done) ||
        !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, M13_WIRE_TAG_BYTES, header->tag))
        errx(1, "cannot seal");
}

static void write_message(const struct load *load, struct batch *batch, uint32_t slot)
{
    uint32_t end = load->flow / load->spell % load->ends;
    struct msghdr *message = &batch->messages[slot].msg_hdr;
    uint8_t *bytes = batch->bytes[slot];
    *message = (struct msghdr){.msg_name = &batch->to[slot],
                               .msg_namelen = sizeof batch->to[slot],
                               .msg_iov = &batch->vectors[slot],
                               .msg_iovlen = 1};
    if (!load->is_sealed) {
        uint32_t destination = htonl(ntohl(load->far) + end);
        write_inner(load, bytes, load->source, destination);
        batch->to[slot] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {destination}};
        batch->vectors[slot] = (struct iovec){bytes, load->bytes};
        return;
    }
    struct in_pktinfo from = {.ipi_spec_dst = {load->peers[end].address}};
    write_inner(load, bytes + M13_WIRE_FRAME_BYTES, load->peers[end].tunnel_address, load->far);
    seal(load, end, (void *)bytes);
    batch->to[slot] = load->hub;
    batch->vectors[slot] = (struct iovec){bytes, M13_WIRE_FRAME_BYTES + load->bytes};
    message->msg_control = batch->control[slot];
    message->msg_controllen = sizeof batch->control[slot];
    struct cmsghdr *head = CMSG_FIRSTHDR(message);
    *head = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof from), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
    memcpy(CMSG_DATA(head), &from, sizeof from);
}

/* --- a run -------------------------------------------------------------------------------------
 */

static void send_packets(struct load *load, struct batch *batch, uint64_t count)
{
    while (count > 0) {
        uint32_t used = count < BATCH ? (uint32_t)count : BATCH;
        for (uint32_t slot = 0; slot < used; slot++) {
            write_message(load, batch, slot);
            load->flow = (load->flow + 1) % load->flows;
        }
        for (uint32_t done = 0; done < used;) {
            int taken = sendmmsg(load->socket, batch->messages + done, used - done, 0);
            if (taken < 0 && errno != ENOBUFS)
                err(1, "sendmmsg");
            done += taken < 0 ? 1 : (uint32_t)taken; /* ENOBUFS: that packet is lost */
        }
        count -= used;
    }
}

static void run(struct load *load, struct batch *batch, uint64_t rate, uint64_t duration_ns)
{
    uint64_t sent = 0, forgotten = 0, lag_max = rate * LAG_MAX_NS / 1000000000 + 1;
    uint64_t start_ns = now_ns(), elapsed = 0;
    struct timespec tick = {.tv_nsec = TICK_NS};
    for (; elapsed < duration_ns; elapsed = now_ns() - start_ns) {
        uint64_t due = elapsed * rate / 1000000000 - forgotten - sent;
        if (due > lag_max) {
            forgotten += due - lag_max;
            due = lag_max;
        }
        send_packets(load, batch, due);
        sent += due;
        nanosleep(&tick, NULL);
    }
    printf("{\"sent\": %lu, \"forgotten\": %lu, \"seconds\": %.6f}\n", sent, forgotten,
           (double)elapsed / 1e9);
    fflush(stdout);
}

static void serve(struct load *load)
{
    struct batch *batch = aligned_alloc(alignof(struct batch), sizeof *batch);
    if (!batch)
        err(1, "memory");
    memset(batch, 0, sizeof *batch);
    uint32_t ends, spell, flows, protocol, bytes;
    uint64_t rate, duration_ms;
    int found;
    while ((found = scanf("%u %u %u %u %u %lu %lu", &ends, &spell, &flows, &protocol, &bytes, &rate,
                          &duration_ms)) == 7) {
        uint32_t ends_max = load->is_sealed ? load->peer_count : ENDS_MAX;
        uint32_t least = sizeof(struct iphdr) + sizeof(struct tcphdr);
        if (!ends || ends > ends_max || !spell || flows / spell < ends || bytes < least ||
            bytes > SLOT_BYTES - M13_WIRE_FRAME_BYTES || !rate ||
            (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP))
            errx(2, "a run with these numbers is not possible");
        load->ends = ends;
        load->spell = spell;
        load->flows = flows;
        load->bytes = bytes;
        load->protocol = (uint8_t)protocol;
        load->flow = 0;
        run(load, batch, rate, duration_ms * 1000000);
    }
    if (found != EOF)
        errx(2, "not a run: ENDS SPELL FLOWS PROTOCOL BYTES RATE MILLISECONDS");
    free(batch);
}

/* --- set-up ------------------------------------------------------------------------------------
 */

static uint32_t address(const char *text)
{
    struct in_addr found;
    if (inet_pton(AF_INET, text, &found) != 1)
        errx(2, "%s is not an IPv4 address", text);
    return found.s_addr;
}

static void read_peers(struct load *load, const char *path)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0)
        err(1, "%s", path);
    load->peer_count = (uint32_t)((size_t)status.st_size / sizeof *load->peers);
    load->peers = malloc((size_t)status.st_size);
    if (!load->peer_count || load->peer_count > ENDS_MAX || !load->peers ||
        read(file, load->peers, (size_t)status.st_size) != status.st_size)
        errx(1, "%s: 1 to %d peers belong there", path, ENDS_MAX);
    close(file);
    for (uint32_t i = 0; i < load->peer_count; i++) {
        load->contexts[i] = EVP_CIPHER_CTX_new();
        if (!load->contexts[i] || !EVP_EncryptInit_ex2(load->contexts[i], EVP_aes_256_gcm(),
                                                       load->peers[i].key, NULL, NULL))
            errx(1, "no AES-256-GCM");
    }
}

static void open_socket(struct load *load)
{
    int buffer = SEND_BYTES;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = load->hub.sin_port};
    load->socket = load->is_sealed ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
                                   : socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (load->socket < 0 ||
        setsockopt(load->socket, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) != 0)
        err(1, "socket");
    if (load->is_sealed && bind(load->socket, (struct sockaddr *)&any, sizeof any) != 0)
        err(1, "bind");
}

int main(int argc, char **argv)
{
    struct load load = {.is_sealed = argc == 7 && !strcmp(argv[2], "sealed")};
    if (!load.is_sealed && !(argc == 5 && !strcmp(argv[2], "plain")))
        errx(2, "usage: scale_load NETNS sealed HUB PORT FAR PEERS | NETNS plain SOURCE FIRST");
    int netns = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (netns < 0 || setns(netns, CLONE_NEWNET) != 0)
        err(1, "cannot enter %s", argv[1]);
    if (load.is_sealed) {
        load.hub = (struct sockaddr_in){.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)atoi(argv[4])),
                                        .sin_addr = {address(argv[3])}};
        load.far = address(argv[5]);
        read_peers(&load, argv[6]);
    } else {
        load.source = address(argv[3]);
        load.far = address(argv[4]);
    }
    open_socket(&load);
    prctl(PR_SET_TIMERSLACK, 1UL);
    serve(&load);
    return 0;
}
