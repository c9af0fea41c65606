/* The telemetry page described to readers, generated from the lists of stats.h and drop.h. */
#include "stats.h"

#include <stddef.h>

#define COUNTER_ROW(field, words) {"counter", #field, "<u8", M13_STAT_##field, words},
#define DROP_ROW(field, words)    {"drop", #field, "<u8", M13_DROP_##field, words},
#define GAUGE_ROW(field, words)   {"gauge", #field, "<u8", M13_GAUGE_##field, words},
#define STAGE_ROW(field, words)   {"stage", #field, "<u8", M13_STAGE_##field, words},
#define PAGE_ROW(field, type)     {"page", #field, type, offsetof(struct m13_stats_page, field), ""},
#define PEER_ROW(field, type)     {"peer", #field, type, offsetof(struct m13_stats_peer, field), ""},

const struct m13_stats_field m13_stats_fields[] = {
    M13_COUNTERS(COUNTER_ROW) M13_DROPS(DROP_ROW) M13_GAUGES(GAUGE_ROW) M13_STAGES(STAGE_ROW)
    /* clang-format off */
    PAGE_ROW(magic, "<u8") PAGE_ROW(version, "<u4") PAGE_ROW(page_bytes, "<u4")
    PAGE_ROW(pid, "<u4") PAGE_ROW(keepalive_ms, "<u4") PAGE_ROW(started_ns, "<u8")
    PAGE_ROW(role, "S16") PAGE_ROW(interface_name, "S16") PAGE_ROW(tun_name, "S16")
    PAGE_ROW(receive_mode, "S32") PAGE_ROW(aead_backend, "S16") PAGE_ROW(pqc_provider, "S32")
    PAGE_ROW(memory, "S32") PAGE_ROW(state, "<u4") PAGE_ROW(tick_ns, "<u8")
    PAGE_ROW(session_up_ns, "<u8") PAGE_ROW(first_frame_ns, "<u8")
    PEER_ROW(state, "<u4") PEER_ROW(generation, "<u4") PEER_ROW(address, "(16,)u1")
    PEER_ROW(port, "<u2") PEER_ROW(handshake_version, "u1") PEER_ROW(key_phase, "u1")
    PEER_ROW(tunnel_address, "(4,)u1") PEER_ROW(endpoint_kind, "u1") PEER_ROW(rtt_us, "<u4")
    PEER_ROW(loss_per_million, "<u4") PEER_ROW(lost_frames, "<u8") PEER_ROW(missing_frames, "<u8")
    PEER_ROW(path_mtu_bytes, "<u4")
    PEER_ROW(received_packets, "<u8") PEER_ROW(received_bytes, "<u8")
    PEER_ROW(sent_packets, "<u8") PEER_ROW(sent_bytes, "<u8")
    PEER_ROW(last_heard_ns, "<u8") PEER_ROW(established_ns, "<u8") PEER_ROW(handshakes, "<u8")
    PEER_ROW(fingerprint, "(32,)u1") PEER_ROW(name, "S32")
    /* clang-format on */
};
const uint32_t m13_stats_field_count = sizeof m13_stats_fields / sizeof *m13_stats_fields;

#define STATE_NAME(name) [M13_STATE_##name] = #name,
const char *const m13_state_names[M13_STATE_COUNT] = {M13_STATES(STATE_NAME)};
