/* Giving up capabilities, in the order in which the kernel still lets it. */
#include "capability.h"

#include <errno.h>
#include <stdbool.h>

#include <cap-ng.h>

/* Keeps of one set what is in it and in the mask; tells whether anything of it went. */
static bool narrow(capng_type_t set, uint64_t mask)
{
    bool changed = false;
    for (unsigned number = 0; number <= CAP_LAST_CAP; number++) {
        if ((mask & M13_CAPABILITY(number)) || !capng_have_capability(set, number))
            continue;
        capng_update(CAPNG_DROP, set, number);
        changed = true;
    }
    return changed;
}

int m13_capability_reduce(const struct m13_capability_sets *keep)
{
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_get_caps_process())
        return -EPERM;
    /* only CAP_SETPCAP may narrow the bounding set, which matters only to who can still exec */
    bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
    bool bounded = narrow(CAPNG_BOUNDING_SET, keep->bounding);
    (void)narrow(CAPNG_AMBIENT, 0);
    (void)narrow(CAPNG_INHERITABLE, 0);
    (void)narrow(CAPNG_EFFECTIVE, keep->effective);
    (void)narrow(CAPNG_PERMITTED, keep->permitted);
    if (bounded && may_bound && capng_apply(CAPNG_SELECT_BOUNDS))
        return -EPERM;
    return capng_apply(CAPNG_SELECT_CAPS) ? -EPERM : 0;
}

int m13_capability_forgo(void)
{
    const struct m13_capability_sets nothing = {0};
    return m13_capability_reduce(&nothing);
}

int m13_capability_number(const char *name)
{
    return capng_name_to_capability(name);
}
