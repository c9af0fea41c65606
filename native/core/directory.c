/* The directory's two tables under one lock. */
#include "directory.h"

#include "inner.h"

int m13_directory_init(struct m13_directory *directory, uint64_t seed, uint32_t established_max,
                       uint32_t prefixes)
{
    directory->established = 0;
    directory->established_max = established_max;
    m13_map_init(&directory->by_mac, seed);
    int error = m13_prefix_table_init(&directory->prefixes, prefixes);
    return error ? error : -pthread_rwlock_init(&directory->lock, NULL);
}

void m13_directory_fini(struct m13_directory *directory)
{
    m13_prefix_table_fini(&directory->prefixes);
    pthread_rwlock_destroy(&directory->lock);
}

bool m13_directory_enter(struct m13_directory *directory)
{
    pthread_rwlock_wrlock(&directory->lock);
    bool has_room = directory->established < directory->established_max;
    directory->established += has_room;
    pthread_rwlock_unlock(&directory->lock);
    return has_room;
}

void m13_directory_leave(struct m13_directory *directory)
{
    pthread_rwlock_wrlock(&directory->lock);
    directory->established--;
    pthread_rwlock_unlock(&directory->lock);
}

void m13_directory_set_prefix(struct m13_directory *directory, const struct m13_prefix *prefix,
                              uint16_t worker)
{
    pthread_rwlock_wrlock(&directory->lock);
    /* has room for those of all peers */
    (void)m13_prefix_set(&directory->prefixes, prefix, worker);
    pthread_rwlock_unlock(&directory->lock);
}

void m13_directory_remove_prefix(struct m13_directory *directory, const struct m13_prefix *prefix,
                                 uint16_t worker)
{
    pthread_rwlock_wrlock(&directory->lock);
    m13_prefix_remove(&directory->prefixes, prefix, worker);
    pthread_rwlock_unlock(&directory->lock);
}

void m13_directory_set_mac(struct m13_directory *directory, uint64_t mac, uint16_t worker)
{
    pthread_rwlock_wrlock(&directory->lock);
    (void)m13_map_set(&directory->by_mac, mac, worker);
    pthread_rwlock_unlock(&directory->lock);
}

void m13_directory_remove_mac(struct m13_directory *directory, uint64_t mac, uint16_t worker)
{
    pthread_rwlock_wrlock(&directory->lock);
    m13_map_remove(&directory->by_mac, mac, worker);
    pthread_rwlock_unlock(&directory->lock);
}

uint16_t m13_directory_by_destination(struct m13_directory *directory, const uint8_t *inner)
{
    pthread_rwlock_rdlock(&directory->lock);
    uint16_t worker = m13_inner_find_destination(&directory->prefixes, inner);
    pthread_rwlock_unlock(&directory->lock);
    return worker;
}

uint16_t m13_directory_by_mac(struct m13_directory *directory, uint64_t mac)
{
    pthread_rwlock_rdlock(&directory->lock);
    uint16_t worker = m13_map_find(&directory->by_mac, mac);
    pthread_rwlock_unlock(&directory->lock);
    return worker;
}
