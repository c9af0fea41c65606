/* The two filters: a list of what is refused, and a list of what is left. */
#include "seccomp.h"

#include <errno.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <sys/mman.h>

#include <seccomp.h>

/* No filter of ours decides often by an argument, so the kernel knows most answers in advance
 * (Linux 5.11, a bitmap); for the others a tree is shorter than a list. */
enum { BINARY_TREE = 2 };

static const int REFUSED[] = {
    /* other processes' memory and registers */
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    /* another kernel, more kernel, another machine state */
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(syslog),
    SCMP_SYS(personality),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(quotactl),
    SCMP_SYS(vhangup),
    /* mounts, roots and namespaces, and the ways around them */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    /* clocks and keyrings */
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
};

static const int ALLOWED[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(close),
    /* memory; what could become executable follows below */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* waiting, time and chance */
    SCMP_SYS(futex),
    SCMP_SYS(sched_yield),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(restart_syscall),
    /* itself and its end */
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

static int add_all(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
    int error = 0;
    for (size_t index = 0; index < count && !error; index++) {
        /* a machine without this call needs no rule for it */
        if (calls[index] >= 0)
            error = seccomp_rule_add(filter, action, calls[index], 0);
    }
    return error;
}

/* On every thread there is, also those that were started before. */
static int load(scmp_filter_ctx filter)
{
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, BINARY_TREE);
    /* before Linux 5.16 a filter switched speculation off, which costs each packet */
    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    return error ? error : seccomp_load(filter);
}

int m13_seccomp_refuse_administration(void)
{
    const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return -ENOMEM;
    int error = add_all(filter, refuse, REFUSED, sizeof REFUSED / sizeof *REFUSED);
    /* commands 1 to 4 are what is done with the elements of a map; only a masked comparison looks
     * at its second number */
    if (!error)
        error = seccomp_rule_add(filter, refuse, SCMP_SYS(bpf), 1,
                                 SCMP_A0_32(SCMP_CMP_LT, BPF_MAP_LOOKUP_ELEM, 0));
    if (!error)
        error = seccomp_rule_add(filter, refuse, SCMP_SYS(bpf), 1,
                                 SCMP_A0_32(SCMP_CMP_GT, BPF_MAP_GET_NEXT_KEY, 0));
    if (!error)
        error = load(filter);
    seccomp_release(filter);
    return error;
}

int m13_seccomp_allow_computing(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return -ENOMEM;
    int error = add_all(filter, SCMP_ACT_ALLOW, ALLOWED, sizeof ALLOWED / sizeof *ALLOWED);
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                 SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                 SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!error)
        error = load(filter);
    seccomp_release(filter);
    return error;
}
