/* Which system calls a process may still make (seccomp(2)), by way of libseccomp.
 *
 * Both filters hold for every thread of the process and for what it starts, set no_new_privs, and
 * cannot be taken off. A call in the convention of another machine (i386, x32) kills. */
#ifndef M13_SECCOMP_H
#define M13_SECCOMP_H

/* For a process that has come up: administration of the machine, other processes' memory, modules,
 * mounts, namespaces, clocks, keyrings and new BPF programs are refused with EPERM; a BPF map that
 * is open may still be read and written. 0 or -errno. */
int m13_seccomp_refuse_administration(void);

/* For a process that only computes: it may read, write and wait on the descriptors it has, have
 * memory that is never executable, randomness and the time, and end. Anything else kills it
 * (SECCOMP_RET_KILL_PROCESS, Linux 4.14). 0 or -errno. */
int m13_seccomp_allow_computing(void);

#endif
