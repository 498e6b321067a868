/*
 * libcriu: checkpoint and restore of processes, from C.
 *
 * A program says what it wants with the setters and calls a verb. The functions with `local` in
 * their name take options of their own; the others share one set. All may be called from any
 * thread. Strings are copied. A NULL, a negative descriptor or a call before criu_init_opts() is an
 * error code or has no effect.
 *
 * Generated from src/capi by `make header`.
 */

#ifndef CRIU_CRIU_H
#define CRIU_CRIU_H

#include <assert.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "version.h"

typedef struct criu_opts criu_opts;

/* The version of CRIU that this library stands for, as text. */
#ifdef __cplusplus
extern "C" {
#endif
extern const char *criu_lib_version;
#ifdef __cplusplus
}
#endif


/**
 * As `log_level`: nothing was said.
 */
#define CRIU_LOG_UNSET -1

/**
 * As `log_level`: only messages that are always written.
 */
#define CRIU_LOG_MSG 0

/**
 * As `log_level`: errors.
 */
#define CRIU_LOG_ERROR 1

/**
 * As `log_level`: warnings too.
 */
#define CRIU_LOG_WARN 2

/**
 * As `log_level`: what is being done too.
 */
#define CRIU_LOG_INFO 3

/**
 * As `log_level`: everything.
 */
#define CRIU_LOG_DEBUG 4

/**
 * How the worker is reached: a socket address, a connected socket, a program.
 */
enum criu_service_comm {
        CRIU_COMM_SK,
        CRIU_COMM_FD,
        CRIU_COMM_BIN
};

/**
 * How much of the cgroups is restored.
 */
enum criu_cg_mode {
        CRIU_CG_MODE_IGNORE,
        CRIU_CG_MODE_NONE,
        CRIU_CG_MODE_PROPS,
        CRIU_CG_MODE_SOFT,
        CRIU_CG_MODE_FULL,
        CRIU_CG_MODE_STRICT,
        CRIU_CG_MODE_DEFAULT
};

/**
 * How the network is kept still while connections are dumped or restored.
 */
enum criu_network_lock_method {
        CRIU_NETWORK_LOCK_IPTABLES = 1,
        CRIU_NETWORK_LOCK_NFTABLES = 2,
        CRIU_NETWORK_LOCK_SKIP = 3
};

/**
 * How a pre-dump reads the memory of the tasks.
 */
enum criu_pre_dump_mode {
        CRIU_PRE_DUMP_SPLICE = 1,
        CRIU_PRE_DUMP_READ = 2
};

/**
 * A notification, as its callback sees it.
 */
struct criu_notify;

/**
 * Options, the way to the worker, the callback and the last error of one user of the library.
 */
struct criu_opts;

/**
 * An opaque value that a callback passes on to `criu_notify_pid()`; it ends with the callback.
 */
typedef struct criu_notify *criu_notify_arg_t;

/**
 * An opaque value that the callback of `criu_dump_iters()` is given; always NULL.
 */
typedef void *criu_predump_info;

/**
 * What `criu_feature_check()` asks about and answers.
 */
struct criu_feature_check {
        /**
         * Changed pages can be tracked.
         */
        bool mem_track;
        /**
         * Pages can be restored on demand.
         */
        bool lazy_pages;
        /**
         * Tasks can be told apart from later tasks with the same pid.
         */
        bool pidfd_store;
};

#ifdef __cplusplus
extern "C" {
#endif /* __cplusplus */

/**
 * Sets the options to their defaults. To be called first.
 *
 * Returns 0. Options that were set before are forgotten.
 */
int criu_init_opts(void);

/**
 * Forgets the options, until the next `criu_init_opts()`.
 */
void criu_free_opts(void);

/**
 * Makes options of their own and stores them in `*opts`.
 *
 * `*opts` has to be NULL or options of an earlier call, which are freed. Returns 0; -1 if `opts`
 * is NULL. Free them with `criu_local_free_opts()`.
 */
int criu_local_init_opts(struct criu_opts **opts);

/**
 * Frees the options; NULL is allowed.
 */
void criu_local_free_opts(struct criu_opts *opts);

/**
 * Talks to a service that listens on the Unix socket `path`; NULL: `./criu_service.socket`.
 *
 * Returns 0, or -EINVAL without options.
 */
int criu_set_service_address(const char *path);

/**
 * `criu_set_service_address()` for options of their own.
 */
int criu_local_set_service_address(struct criu_opts *opts, const char *path);

/**
 * Talks over `fd`, a SOCK_SEQPACKET Unix socket that is connected to a service.
 *
 * The next verb uses it up and closes it, `criu_restore_child()` excepted.
 */
void criu_set_service_fd(int fd);

/**
 * `criu_set_service_fd()` for options of their own.
 */
void criu_local_set_service_fd(struct criu_opts *opts, int fd);

/**
 * Starts the program `path` as the worker; it is searched in PATH if it has no slash.
 *
 * NULL: the library's own worker, which is the default and needs no set-up. Returns 0, or -EINVAL
 * without options.
 */
int criu_set_service_binary(const char *path);

/**
 * `criu_set_service_binary()` for options of their own.
 */
int criu_local_set_service_binary(struct criu_opts *opts, const char *path);

/**
 * Runs the engine in the calling thread: no worker, no exec. Not in upstream's library.
 *
 * For hosts that can afford it: the engine traces tasks and waits for them from this very process,
 * and every restored root is its child. A caller that dumps itself gets a worker all the same.
 * Returns 0, or -EINVAL without options.
 */
int criu_set_service_inprocess(void);

/**
 * `criu_set_service_inprocess()` for options of their own. Not in upstream's library.
 */
int criu_local_set_service_inprocess(struct criu_opts *opts);

/**
 * Forgets what was said about the service: the library's own worker is used again.
 */
void criu_free_service(struct criu_opts *opts);

/**
 * The tasks run on after their dump.
 */
void criu_set_leave_running(bool on);

/**
 * `criu_set_leave_running()` for options of their own.
 */
void criu_local_set_leave_running(struct criu_opts *opts, bool on);

/**
 * The tasks stay stopped after their dump or restore. Not in upstream's library.
 */
void criu_set_leave_stopped(bool on);

/**
 * `criu_set_leave_stopped()` for options of their own. Not in upstream's library.
 */
void criu_local_set_leave_stopped(struct criu_opts *opts, bool on);

/**
 * The tasks may belong to a session or terminal outside the tree.
 */
void criu_set_shell_job(bool on);

/**
 * `criu_set_shell_job()` for options of their own.
 */
void criu_local_set_shell_job(struct criu_opts *opts, bool on);

/**
 * Unix sockets may have their other end outside the tree.
 */
void criu_set_ext_unix_sk(bool on);

/**
 * `criu_set_ext_unix_sk()` for options of their own.
 */
void criu_local_set_ext_unix_sk(struct criu_opts *opts, bool on);

/**
 * Established TCP connections are dumped and restored.
 */
void criu_set_tcp_established(bool on);

/**
 * `criu_set_tcp_established()` for options of their own.
 */
void criu_local_set_tcp_established(struct criu_opts *opts, bool on);

/**
 * TCP connections that are still being made are left out.
 */
void criu_set_tcp_skip_in_flight(bool on);

/**
 * `criu_set_tcp_skip_in_flight()` for options of their own.
 */
void criu_local_set_tcp_skip_in_flight(struct criu_opts *opts, bool on);

/**
 * TCP connections are restored closed.
 */
void criu_set_tcp_close(bool on);

/**
 * `criu_set_tcp_close()` for options of their own.
 */
void criu_local_set_tcp_close(struct criu_opts *opts, bool on);

/**
 * Sysctls that do not exist at restore are left out.
 */
void criu_set_weak_sysctls(bool on);

/**
 * `criu_set_weak_sysctls()` for options of their own.
 */
void criu_local_set_weak_sysctls(struct criu_opts *opts, bool on);

/**
 * A device may be opened by another path than at the dump.
 */
void criu_set_evasive_devices(bool on);

/**
 * `criu_set_evasive_devices()` for options of their own.
 */
void criu_local_set_evasive_devices(struct criu_opts *opts, bool on);

/**
 * The permission bits of files may have changed since the dump.
 */
void criu_set_skip_file_rwx_check(bool on);

/**
 * `criu_set_skip_file_rwx_check()` for options of their own.
 */
void criu_local_set_skip_file_rwx_check(struct criu_opts *opts, bool on);

/**
 * Works as far as the capabilities of the caller allow.
 */
void criu_set_unprivileged(bool on);

/**
 * `criu_set_unprivileged()` for options of their own.
 */
void criu_local_set_unprivileged(struct criu_opts *opts, bool on);

/**
 * The master of a console terminal is given to the callback at restore.
 */
void criu_set_orphan_pts_master(bool on);

/**
 * `criu_set_orphan_pts_master()` for options of their own.
 */
void criu_local_set_orphan_pts_master(struct criu_opts *opts, bool on);

/**
 * File locks are dumped and restored.
 */
void criu_set_file_locks(bool on);

/**
 * `criu_set_file_locks()` for options of their own.
 */
void criu_local_set_file_locks(struct criu_opts *opts, bool on);

/**
 * Changes of memory are tracked for the next dump.
 */
void criu_set_track_mem(bool on);

/**
 * `criu_set_track_mem()` for options of their own.
 */
void criu_local_set_track_mem(struct criu_opts *opts, bool on);

/**
 * Pages that this dump replaces are removed from the parent images.
 */
void criu_set_auto_dedup(bool on);

/**
 * `criu_set_auto_dedup()` for options of their own.
 */
void criu_local_set_auto_dedup(struct criu_opts *opts, bool on);

/**
 * Paths of inotify watches are searched for in the file system.
 */
void criu_set_force_irmap(bool on);

/**
 * `criu_set_force_irmap()` for options of their own.
 */
void criu_local_set_force_irmap(struct criu_opts *opts, bool on);

/**
 * Unlinked files may be linked back under a temporary name.
 */
void criu_set_link_remap(bool on);

/**
 * `criu_set_link_remap()` for options of their own.
 */
void criu_local_set_link_remap(struct criu_opts *opts, bool on);

/**
 * Cgroups are dumped and restored.
 */
void criu_set_manage_cgroups(bool on);

/**
 * `criu_set_manage_cgroups()` for options of their own.
 */
void criu_local_set_manage_cgroups(struct criu_opts *opts, bool on);

/**
 * External mounts are found without being named.
 */
void criu_set_auto_ext_mnt(bool on);

/**
 * `criu_set_auto_ext_mnt()` for options of their own.
 */
void criu_local_set_auto_ext_mnt(struct criu_opts *opts, bool on);

/**
 * Mounts may share propagation with mounts outside.
 */
void criu_set_ext_sharing(bool on);

/**
 * `criu_set_ext_sharing()` for options of their own.
 */
void criu_local_set_ext_sharing(struct criu_opts *opts, bool on);

/**
 * Mounts may have their master outside.
 */
void criu_set_ext_masters(bool on);

/**
 * `criu_set_ext_masters()` for options of their own.
 */
void criu_local_set_ext_masters(struct criu_opts *opts, bool on);

/**
 * Mounts are restored the way of kernels before 5.15.
 */
void criu_set_mntns_compat_mode(bool on);

/**
 * `criu_set_mntns_compat_mode()` for options of their own.
 */
void criu_local_set_mntns_compat_mode(struct criu_opts *opts, bool on);

/**
 * Pages are restored on demand. Not in upstream's library.
 */
void criu_set_lazy_pages(bool on);

/**
 * `criu_set_lazy_pages()` for options of their own. Not in upstream's library.
 */
void criu_local_set_lazy_pages(struct criu_opts *opts, bool on);

/**
 * Statistics are written to the log. Not in upstream's library.
 */
void criu_set_display_stats(bool on);

/**
 * `criu_set_display_stats()` for options of their own. Not in upstream's library.
 */
void criu_local_set_display_stats(struct criu_opts *opts, bool on);

/**
 * The worker logs to its standard error instead of a file. Not in upstream's library.
 */
void criu_set_log_to_stderr(bool on);

/**
 * `criu_set_log_to_stderr()` for options of their own. Not in upstream's library.
 */
void criu_local_set_log_to_stderr(struct criu_opts *opts, bool on);

/**
 * The page server's connection is encrypted. Not in upstream's library.
 */
void criu_set_tls(bool on);

/**
 * `criu_set_tls()` for options of their own. Not in upstream's library.
 */
void criu_local_set_tls(struct criu_opts *opts, bool on);

/**
 * The name in the page server's certificate is not compared with its address. Not in upstream's library.
 */
void criu_set_tls_no_cn_verify(bool on);

/**
 * `criu_set_tls_no_cn_verify()` for options of their own. Not in upstream's library.
 */
void criu_local_set_tls_no_cn_verify(struct criu_opts *opts, bool on);

/**
 * The root of the tree to dump; without it the caller dumps itself.
 */
void criu_set_pid(int pid);

/**
 * `criu_set_pid()` for options of their own.
 */
void criu_local_set_pid(struct criu_opts *opts, int pid);

/**
 * The image directory. The descriptor has to stay open until the verb returns.
 *
 * A negative number takes back what was said.
 */
void criu_set_images_dir_fd(int fd);

/**
 * `criu_set_images_dir_fd()` for options of their own.
 */
void criu_local_set_images_dir_fd(struct criu_opts *opts, int fd);

/**
 * The directory for log and statistics; without it, the image directory.
 *
 * A negative number takes back what was said.
 */
void criu_set_work_dir_fd(int fd);

/**
 * `criu_set_work_dir_fd()` for options of their own.
 */
void criu_local_set_work_dir_fd(struct criu_opts *opts, int fd);

/**
 * A descriptor that gets a byte when the worker is ready.
 *
 * A negative number takes back what was said. Not in upstream's library.
 */
void criu_set_status_fd(int fd);

/**
 * `criu_set_status_fd()` for options of their own. Not in upstream's library.
 */
void criu_local_set_status_fd(struct criu_opts *opts, int fd);

/**
 * A socket that keeps the pidfds of dumped tasks from one dump to the next.
 *
 * A negative number takes back what was said.
 */
void criu_set_pidfd_store_sk(int sk);

/**
 * `criu_set_pidfd_store_sk()` for options of their own.
 */
void criu_local_set_pidfd_store_sk(struct criu_opts *opts, int sk);

/**
 * How much is logged: `CRIU_LOG_ERROR` to `CRIU_LOG_DEBUG`.
 */
void criu_set_log_level(int log_level);

/**
 * `criu_set_log_level()` for options of their own.
 */
void criu_local_set_log_level(struct criu_opts *opts, int log_level);

/**
 * What of the processor is written by a dump and compared by a restore: 1 for the floating point
 * state, 2 for every capability, 4 for instructions, or a sum. Nothing is, where it is not called.
 */
void criu_set_cpu_cap(unsigned int cap);

/**
 * `criu_set_cpu_cap()` for options of their own.
 */
void criu_local_set_cpu_cap(struct criu_opts *opts, unsigned int cap);

/**
 * The time limit of a verb in seconds.
 */
void criu_set_timeout(unsigned int timeout);

/**
 * `criu_set_timeout()` for options of their own.
 */
void criu_local_set_timeout(struct criu_opts *opts, unsigned int timeout);

/**
 * The largest unlinked file that is stored in the images, in bytes.
 */
void criu_set_ghost_limit(unsigned int limit);

/**
 * `criu_set_ghost_limit()` for options of their own.
 */
void criu_local_set_ghost_limit(struct criu_opts *opts, unsigned int limit);

/**
 * Namespaces (`CLONE_NEW...`) that are restored empty.
 */
void criu_set_empty_ns(int namespaces);

/**
 * `criu_set_empty_ns()` for options of their own.
 */
void criu_local_set_empty_ns(struct criu_opts *opts, int namespaces);

/**
 * How much of the cgroups is restored.
 */
void criu_set_manage_cgroups_mode(enum criu_cg_mode mode);

/**
 * `criu_set_manage_cgroups_mode()` for options of their own.
 */
void criu_local_set_manage_cgroups_mode(struct criu_opts *opts, enum criu_cg_mode mode);

/**
 * How the network is kept still.
 *
 * Returns 0; -1 if there is no such method.
 */
int criu_set_network_lock(enum criu_network_lock_method method);

/**
 * `criu_set_network_lock()` for options of their own.
 */
int criu_local_set_network_lock(struct criu_opts *opts, enum criu_network_lock_method method);

/**
 * How a pre-dump reads memory.
 *
 * Returns 0; -1 if there is no such mode.
 */
int criu_set_pre_dump_mode(enum criu_pre_dump_mode mode);

/**
 * `criu_set_pre_dump_mode()` for options of their own.
 */
int criu_local_set_pre_dump_mode(struct criu_opts *opts, enum criu_pre_dump_mode mode);

/**
 * The image directory by its path, for the worker to open.
 *
 * It is used if no descriptor is given, and keeps a descriptor out of a self-dump.
 *
 * Returns 0; -EINVAL if it is NULL. Not in upstream's library.
 */
int criu_set_images_dir(const char *path);

/**
 * `criu_set_images_dir()` for options of their own. Not in upstream's library.
 */
int criu_local_set_images_dir(struct criu_opts *opts, const char *path);

/**
 * The images that this dump continues, relative to the image directory.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_parent_images(const char *path);

/**
 * `criu_set_parent_images()` for options of their own.
 */
int criu_local_set_parent_images(struct criu_opts *opts, const char *path);

/**
 * The log's file name in the work directory.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_log_file(const char *log_file);

/**
 * `criu_set_log_file()` for options of their own.
 */
int criu_local_set_log_file(struct criu_opts *opts, const char *log_file);

/**
 * The root directory of the restored tasks.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_root(const char *root);

/**
 * `criu_set_root()` for options of their own.
 */
int criu_local_set_root(struct criu_opts *opts, const char *root);

/**
 * The cgroup whose freezer stops the tasks.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_freeze_cgroup(const char *name);

/**
 * `criu_set_freeze_cgroup()` for options of their own.
 */
int criu_local_set_freeze_cgroup(struct criu_opts *opts, const char *name);

/**
 * The security profile of the restored tasks: `type:name`.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_lsm_profile(const char *name);

/**
 * `criu_set_lsm_profile()` for options of their own.
 */
int criu_local_set_lsm_profile(struct criu_opts *opts, const char *name);

/**
 * The SELinux context of restored mounts.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_lsm_mount_context(const char *name);

/**
 * `criu_set_lsm_mount_context()` for options of their own.
 */
int criu_local_set_lsm_mount_context(struct criu_opts *opts, const char *name);

/**
 * A configuration file that is read after all other options.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_set_config_file(const char *path);

/**
 * `criu_set_config_file()` for options of their own.
 */
int criu_local_set_config_file(struct criu_opts *opts, const char *path);

/**
 * The certificate authority for the page server's connection.
 *
 * Returns 0; -EINVAL if it is NULL. Not in upstream's library.
 */
int criu_set_tls_cacert(const char *path);

/**
 * `criu_set_tls_cacert()` for options of their own. Not in upstream's library.
 */
int criu_local_set_tls_cacert(struct criu_opts *opts, const char *path);

/**
 * The revocation list for the page server's connection.
 *
 * Returns 0; -EINVAL if it is NULL. Not in upstream's library.
 */
int criu_set_tls_cacrl(const char *path);

/**
 * `criu_set_tls_cacrl()` for options of their own. Not in upstream's library.
 */
int criu_local_set_tls_cacrl(struct criu_opts *opts, const char *path);

/**
 * The own certificate for the page server's connection.
 *
 * Returns 0; -EINVAL if it is NULL. Not in upstream's library.
 */
int criu_set_tls_cert(const char *path);

/**
 * `criu_set_tls_cert()` for options of their own. Not in upstream's library.
 */
int criu_local_set_tls_cert(struct criu_opts *opts, const char *path);

/**
 * The private key for the page server's connection.
 *
 * Returns 0; -EINVAL if it is NULL. Not in upstream's library.
 */
int criu_set_tls_key(const char *path);

/**
 * `criu_set_tls_key()` for options of their own. Not in upstream's library.
 */
int criu_local_set_tls_key(struct criu_opts *opts, const char *path);

/**
 * Properties of cgroups to dump, as text. Not in upstream's library.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_cg_props(const char *stream);

/**
 * `criu_add_cg_props()` for options of their own.
 */
int criu_local_add_cg_props(struct criu_opts *opts, const char *stream);

/**
 * A file with the properties of cgroups to dump. Not in upstream's library.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_cg_props_file(const char *path);

/**
 * `criu_add_cg_props_file()` for options of their own.
 */
int criu_local_add_cg_props_file(struct criu_opts *opts, const char *path);

/**
 * A directory where the cgroup controllers are mounted. Not in upstream's library.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_cg_yard(const char *path);

/**
 * `criu_add_cg_yard()` for options of their own.
 */
int criu_local_add_cg_yard(struct criu_opts *opts, const char *path);

/**
 * An object that is outside the tree on purpose: `kind[identity]:name`.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_external(const char *key);

/**
 * `criu_add_external()` for options of their own.
 */
int criu_local_add_external(struct criu_opts *opts, const char *key);

/**
 * A file system that is mounted again at restore though it has no known content.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_enable_fs(const char *fs);

/**
 * `criu_add_enable_fs()` for options of their own.
 */
int criu_local_add_enable_fs(struct criu_opts *opts, const char *fs);

/**
 * A mount point that is left out.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_skip_mnt(const char *mnt);

/**
 * `criu_add_skip_mnt()` for options of their own.
 */
int criu_local_add_skip_mnt(struct criu_opts *opts, const char *mnt);

/**
 * A directory where the files of inotify watches are searched.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_irmap_path(const char *path);

/**
 * `criu_add_irmap_path()` for options of their own.
 */
int criu_local_add_irmap_path(struct criu_opts *opts, const char *path);

/**
 * A cgroup controller to dump; without any, all known ones. Not in upstream's library.
 *
 * Returns 0; -EINVAL if it is NULL.
 */
int criu_add_cg_dump_controller(const char *name);

/**
 * `criu_add_cg_dump_controller()` for options of their own.
 */
int criu_local_add_cg_dump_controller(struct criu_opts *opts, const char *name);

/**
 * A mount that comes from outside: its mount point at dump, its source at restore.
 *
 * Returns 0; -EINVAL if one is NULL.
 */
int criu_add_ext_mount(const char *key, const char *val);

/**
 * `criu_add_ext_mount()` for options of their own.
 */
int criu_local_add_ext_mount(struct criu_opts *opts, const char *key, const char *val);

/**
 * A veth device inside and the name of its peer outside.
 *
 * Returns 0; -EINVAL if one is NULL.
 */
int criu_add_veth_pair(const char *in, const char *out);

/**
 * `criu_add_veth_pair()` for options of their own.
 */
int criu_local_add_veth_pair(struct criu_opts *opts, const char *in, const char *out);

/**
 * The cgroup that restored tasks are put under; `ctrl` NULL: for all controllers.
 *
 * Returns 0; -EINVAL if `path` is NULL.
 */
int criu_add_cg_root(const char *ctrl, const char *path);

/**
 * `criu_add_cg_root()` for options of their own.
 */
int criu_local_add_cg_root(struct criu_opts *opts, const char *ctrl, const char *path);

/**
 * A namespace that the restored tasks join: its kind, its file or a pid; `extra_opt` may be NULL.
 *
 * Returns 0; -1 if `ns` or `ns_file` is NULL.
 */
int criu_join_ns_add(const char *ns, const char *ns_file, const char *extra_opt);

/**
 * `criu_join_ns_add()` for options of their own.
 */
int criu_local_join_ns_add(struct criu_opts *opts,
                           const char *ns,
                           const char *ns_file,
                           const char *extra_opt);

/**
 * A descriptor of the caller that takes the place of what `key` names in the images.
 *
 * Returns 0; -1 if the worker is a service; -EINVAL if `fd` is negative or `key` is NULL.
 */
int criu_add_inherit_fd(int fd, const char *key);

/**
 * `criu_add_inherit_fd()` for options of their own.
 */
int criu_local_add_inherit_fd(struct criu_opts *opts, int fd, const char *key);

/**
 * A Unix socket, by its inode, whose other end may be outside; switches `ext_unix_sk` on.
 *
 * Returns 0; -1 if `ext_unix_sk` was switched off, which forgets the sockets added before.
 */
int criu_add_unix_sk(unsigned int inode);

/**
 * `criu_add_unix_sk()` for options of their own.
 */
int criu_local_add_unix_sk(struct criu_opts *opts, unsigned int inode);

/**
 * The page server.
 *
 * Returns 0; -EINVAL if `address` is NULL.
 */
int criu_set_page_server_address_port(const char *address, int port);

/**
 * `criu_set_page_server_address_port()` for options of their own.
 */
int criu_local_set_page_server_address_port(struct criu_opts *opts, const char *address, int port);

/**
 * The command that the restored tasks' parent becomes.
 *
 * Returns 0; -EINVAL if `argc` is negative or a string is NULL.
 */
int criu_set_exec_cmd(int argc, char **argv);

/**
 * `criu_set_exec_cmd()` for options of their own.
 */
int criu_local_set_exec_cmd(struct criu_opts *opts, int argc, char **argv);

/**
 * Sets the callback that is asked at every stage of a dump or restore.
 *
 * `action` is the stage: pre-dump, post-dump, pre-restore, post-restore, network-lock,
 * network-unlock, setup-namespaces, post-setup-namespaces, pre-resume, post-resume,
 * orphan-pts-master, query-ext-files, status-ready. The callback returns 0 to go on; a negative
 * value stops the verb, which returns that value. NULL agrees to everything.
 */
void criu_set_notify_cb(int (*cb)(char *action, criu_notify_arg_t na));

/**
 * `criu_set_notify_cb()` for options of their own.
 */
void criu_local_set_notify_cb(struct criu_opts *opts,
                              int (*cb)(char *action, criu_notify_arg_t na));

/**
 * `criu_set_notify_cb()` with a pointer that the callback is given. Not in upstream's library.
 */
void criu_set_notify_cb_data(int (*cb)(char *action, criu_notify_arg_t na, void *data), void *data);

/**
 * `criu_set_notify_cb_data()` for options of their own. Not in upstream's library.
 */
void criu_local_set_notify_cb_data(struct criu_opts *opts, int (*cb)(char *action,
                                                                     criu_notify_arg_t na,
                                                                     void *data), void *data);

/**
 * The pid of the root task that a notification is about; 0 if there is none.
 */
int criu_notify_pid(criu_notify_arg_t na);

/**
 * The descriptor that came with the stage `orphan-pts-master`; -1 if none came.
 *
 * To be called in or after the callback of that stage. The caller owns the descriptor.
 */
int criu_get_orphan_pts_master_fd(void);

/**
 * What failed last, on which object, why, and what would help. Not in upstream's library.
 *
 * Never NULL; empty if the last verb succeeded. Valid until the same thread asks again.
 */
const char *criu_last_error(void);

/**
 * `criu_last_error()` for options of their own. Not in upstream's library.
 */
const char *criu_local_last_error(const struct criu_opts *opts);

/**
 * Whether the kernel has what is needed: 0 if so.
 */
int criu_check(void);

/**
 * `criu_check()` with options of their own.
 */
int criu_local_check(struct criu_opts *opts);

/**
 * Dumps a tree of processes; without a pid, or with the caller's own, the caller itself.
 *
 * Returns 0 when the images are complete; 1 in the restored clone of a caller that dumped itself.
 * Without `criu_set_leave_running(true)` the tree is killed when the dump is whole, and may still be
 * dying when this returns.
 *
 * A dump of some MiB of a child, and a restore of as much, is done without the start of a program
 * if there is no callback. Signals to the calling thread then wait until it is over, which takes
 * milliseconds.
 *
 * Values below 0, with errno: -EBADE: the request failed (ESRCH: no such process; EBADRQC: wrong
 * options; else 0); -ECONNREFUSED: no worker could be reached; -ECOMM: no message could be sent or
 * received; -EINVAL: not supported, or no options; -EBADMSG: unexpected answer. A negative value
 * of the callback is returned as it is. `criu_last_error()` says more.
 */
int criu_dump(void);

/**
 * `criu_dump()` with options of their own.
 */
int criu_local_dump(struct criu_opts *opts);

/**
 * Dumps the memory of a tree, which runs on; a dump with these images as parent is quicker.
 *
 * Returns 0, or as `criu_dump()`.
 */
int criu_pre_dump(void);

/**
 * `criu_pre_dump()` with options of their own.
 */
int criu_local_pre_dump(struct criu_opts *opts);

/**
 * Pre-dumps another process until `more` returns 0, then dumps it.
 *
 * `more` returns a positive value for one more round, a negative one to give up, which is then
 * returned. -EINVAL without a pid or callback; else as `criu_dump()`.
 */
int criu_dump_iters(int (*more)(criu_predump_info pi));

/**
 * `criu_dump_iters()` with options of their own.
 */
int criu_local_dump_iters(struct criu_opts *opts, int (*more)(criu_predump_info pi));

/**
 * Restores a tree, which is not the caller's child.
 *
 * Returns the pid of its root. Below 0 as `criu_dump()`; with -EBADE, errno EEXIST means that a pid
 * of the tree is taken. About signals meanwhile see there, too.
 */
int criu_restore(void);

/**
 * `criu_restore()` with options of their own.
 */
int criu_local_restore(struct criu_opts *opts);

/**
 * Restores a tree whose root becomes the caller's child and can be waited for.
 *
 * Returns as `criu_restore()`. A service cannot do this: the worker is then a program all the same.
 */
int criu_restore_child(void);

/**
 * `criu_restore_child()` with options of their own.
 */
int criu_local_restore_child(struct criu_opts *opts);

/**
 * Takes a snapshot of the calling process into the directory `images_dir`, and goes on.
 *
 * Returns 0 in the caller, and 1 in every process that is restored from the images. Below 0 as
 * `criu_dump()`. The directory is made if it is missing. Options that were set hold, but
 * `leave_running` is always on and `shell_job` is on unless it was switched off;
 * `criu_init_opts()` may be left out. Not in upstream's library.
 */
int criu_snapshot(const char *images_dir);

/**
 * `criu_snapshot()` with options of their own. Not in upstream's library.
 */
int criu_local_snapshot(struct criu_opts *opts, const char *images_dir);

/**
 * The worker's version: major * 10000 + minor * 100 + sublevel. Below 0 as `criu_dump()`.
 */
int criu_get_version(void);

/**
 * `criu_get_version()` with options of their own.
 */
int criu_local_get_version(struct criu_opts *opts);

/**
 * 1 if the worker's version is at least `minimum`, 0 if it is older. Below 0 as `criu_dump()`.
 */
int criu_check_version(int minimum);

/**
 * `criu_check_version()` with options of their own.
 */
int criu_local_check_version(struct criu_opts *opts, int minimum);

/**
 * Which features there are on this kernel.
 *
 * Those that are true in `*features` are asked about; afterwards those are true that there are.
 * `size` is the size of the caller's struct. Returns 0; -1 if `features` is NULL or `size` too
 * large; else as `criu_dump()`.
 */
int criu_feature_check(struct criu_feature_check *features, size_t size);

/**
 * `criu_feature_check()` with options of their own.
 */
int criu_local_feature_check(struct criu_opts *opts,
                             struct criu_feature_check *features,
                             size_t size);

#ifdef __cplusplus
}  // extern "C"
#endif  /* __cplusplus */

#endif  /* CRIU_CRIU_H */


