/* Inner packets larger than one frame carries to their peer: cut, put together, and told about. */
#ifndef M13_FRAGMENT_H
#define M13_FRAGMENT_H

#include "path.h"

/* How an inner packet is cut to fit the path to a peer: chunks of one length but the last. */
struct m13_fragments {
    uint32_t total;
    uint32_t chunk_bytes;
};
#define M13_TUNNEL_FRAGMENTS_MAX 8 /* of the largest inner packet over the smallest path */

/* As few as the path allows, at least one. inner_bytes: 1..M13_TUNNEL_MTU_MAX. */
struct m13_fragments m13_fragment_plan(const struct m13_peer *peer, uint32_t inner_bytes);
/* Writes header and chunk of one fragment before it is sealed; its packet gets length and kind.
 * The payload may begin 8 bytes before the inner packet's first byte, else they do not overlap.
 * id: low 16 bits of the first one's counter. */
void m13_fragment_write(struct m13_packet *packet, const struct m13_fragments *plan, uint16_t id,
                        uint32_t index, const uint8_t *inner, uint32_t inner_bytes);
/* To the peer went fragments: one packet in its counts, once they are sealed. */
void m13_fragment_count(struct m13_path *path, struct m13_peer *peer,
                        const struct m13_fragments *plan);

/* Tells the sender of an inner packet that goes as fragments, through the TUN, what would fit (ICMP
 * type 3 code 4, ICMPv6 type 2); not always, and not too often. */
void m13_too_big_tell(struct m13_path *path, struct m13_peer *peer, const uint8_t *inner,
                      uint32_t inner_bytes);

/* Consumes a TO_REASSEMBLE packet. True when an inner packet is complete: described in message,
 * whose bytes stay until the peer's next fragment. */
bool m13_reassemble(struct m13_path *path, struct m13_packet *packet,
                    struct m13_frag_message *message);
/* Makes packet the TO_TUN packet of a complete message, copied into frame, which holds
 * M13_WIRE_FRAME_BYTES + M13_TUNNEL_MTU_MAX; it may be the packet's own frame. */
void m13_reassembled(struct m13_packet *packet, struct m13_wire_frame *frame,
                     const struct m13_frag_message *message);

#endif
