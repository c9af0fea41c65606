/* Why a packet is dropped: one line here makes the enum, the text and the telemetry counter. */
#ifndef M13_DROP_H
#define M13_DROP_H

#define M13_DROPS(_)                                                                               \
    _(outer_header, "outer Ethernet, IPv4 or UDP header wrong or not for us")                      \
    _(l2_frame, "raw L2 frame that is not for us, or not served")                                  \
    _(too_short, "shorter than an M13 frame")                                                      \
    _(bad_magic, "not M13 (magic, version or EtherType)")                                          \
    _(crypto_version, "unknown crypto version")                                                    \
    _(clear_flags, "cleartext frame of a kind that must be sealed")                                \
    _(clear_length, "cleartext frame longer than its kind allows")                                 \
    _(no_cookie, "handshake fragment without a valid cookie")                                      \
    _(no_peer_slot, "no room for another handshake")                                               \
    _(unknown_peer, "sealed frame from nobody we know")                                            \
    _(no_session, "no session, or none with this key phase")                                       \
    _(reflected, "nonce direction or padding is not the peer's")                                   \
    _(replay, "counter seen before, or older than the window")                                     \
    _(open_failed, "tag did not verify")                                                           \
    _(sequence, "sequence differs from the nonce counter")                                         \
    _(payload_length, "payload length beyond the frame")                                           \
    _(unexpected_flags, "authentic frame of a kind not in use")                                    \
    _(fragment, "fragment contradicts its message")                                                \
    _(handshake_message, "handshake message wrong, unexpected or too early")                       \
    _(handshake_busy, "the handshake worker's ring is full")                                       \
    _(control, "sealed control message malformed")                                                 \
    _(inner_header, "inner packet is not IP or its length is wrong")                               \
    _(inner_source, "inner source address is not the peer's")                                      \
    _(no_route, "no peer has the inner destination")                                               \
    _(multicast, "what a kernel says to all neighbours: the tunnel has none")                      \
    _(hop_limit, "TTL or hop limit ran out between two nodes")                                     \
    _(tunnel_mtu, "inner packet larger than the tunnel MTU")                                       \
    _(counter_exhausted, "session reached the hard stop of its counter")                           \
    _(tun_ring_full, "ring to the TUN thread is full")                                             \
    _(tun_write, "the kernel refused a packet written to the TUN")                                 \
    _(worker_ring_full, "ring to the worker that has the peer is full")                            \
    _(queue_full, "scheduler queue is full")                                                       \
    _(no_frame, "the slab had no frame")                                                           \
    _(link_mtu, "larger than the network interface takes")                                         \
    _(send_failed, "the kernel refused a datagram")                                                \
    _(feedback, "report of arrivals that cannot be true")                                          \
    _(stale_fin, "FIN under another key than the session's present one")                           \
    _(shutdown, "still queued at shutdown, or asked for a session then")

#define M13_DROP_ENUM(name, text) M13_DROP_##name,
enum m13_drop { M13_DROPS(M13_DROP_ENUM) M13_DROP_COUNT };
#undef M13_DROP_ENUM

#endif
