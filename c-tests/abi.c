/*
 * Every function of libcriu has the type that programs written for CRIU 4.2 expect, in C and in C++,
 * and is exported: each is assigned to a pointer of its type, and all are called once in a way that
 * does nothing.
 *
 * To be compiled with -Wall -Wextra -Werror -pedantic.
 */
#include <stdio.h>
#include <string.h>

#include <criu/criu.h>

#define HAS(result, name, arguments)                         \
	do {                                                 \
		result(*volatile pointer) arguments = name;  \
		if (!pointer)                                \
			return missing(#name);               \
	} while (0)

static int missing(const char *name)
{
	fprintf(stderr, "%s is missing\n", name);
	return 1;
}

static int upstream(void)
{
	HAS(int, criu_set_service_address, (const char *path));
	HAS(void, criu_set_service_fd, (int fd));
	HAS(int, criu_set_service_binary, (const char *path));
	HAS(int, criu_init_opts, (void));
	HAS(void, criu_free_opts, (void));
	HAS(void, criu_set_pid, (int pid));
	HAS(void, criu_set_images_dir_fd, (int fd));
	HAS(int, criu_set_parent_images, (const char *path));
	HAS(void, criu_set_work_dir_fd, (int fd));
	HAS(void, criu_set_leave_running, (bool leave_running));
	HAS(void, criu_set_ext_unix_sk, (bool ext_unix_sk));
	HAS(int, criu_add_unix_sk, (unsigned int inode));
	HAS(void, criu_set_tcp_established, (bool tcp_established));
	HAS(void, criu_set_tcp_skip_in_flight, (bool tcp_skip_in_flight));
	HAS(void, criu_set_tcp_close, (bool tcp_close));
	HAS(void, criu_set_weak_sysctls, (bool val));
	HAS(void, criu_set_evasive_devices, (bool evasive_devices));
	HAS(void, criu_set_shell_job, (bool shell_job));
	HAS(void, criu_set_skip_file_rwx_check, (bool skip_file_rwx_check));
	HAS(void, criu_set_unprivileged, (bool unprivileged));
	HAS(void, criu_set_orphan_pts_master, (bool orphan_pts_master));
	HAS(void, criu_set_file_locks, (bool file_locks));
	HAS(void, criu_set_track_mem, (bool track_mem));
	HAS(void, criu_set_auto_dedup, (bool auto_dedup));
	HAS(void, criu_set_force_irmap, (bool force_irmap));
	HAS(void, criu_set_link_remap, (bool link_remap));
	HAS(void, criu_set_log_level, (int log_level));
	HAS(int, criu_set_log_file, (const char *log_file));
	HAS(void, criu_set_cpu_cap, (unsigned int cap));
	HAS(int, criu_set_root, (const char *root));
	HAS(void, criu_set_manage_cgroups, (bool manage));
	HAS(void, criu_set_manage_cgroups_mode, (enum criu_cg_mode mode));
	HAS(int, criu_set_freeze_cgroup, (const char *name));
	HAS(int, criu_set_lsm_profile, (const char *name));
	HAS(int, criu_set_lsm_mount_context, (const char *name));
	HAS(void, criu_set_timeout, (unsigned int timeout));
	HAS(void, criu_set_auto_ext_mnt, (bool val));
	HAS(void, criu_set_ext_sharing, (bool val));
	HAS(void, criu_set_ext_masters, (bool val));
	HAS(int, criu_set_exec_cmd, (int argc, char *argv[]));
	HAS(int, criu_add_ext_mount, (const char *key, const char *val));
	HAS(int, criu_add_veth_pair, (const char *, const char *));
	HAS(int, criu_add_cg_root, (const char *ctrl, const char *path));
	HAS(int, criu_add_enable_fs, (const char *fs));
	HAS(int, criu_add_skip_mnt, (const char *mnt));
	HAS(void, criu_set_ghost_limit, (unsigned int limit));
	HAS(int, criu_add_irmap_path, (const char *path));
	HAS(int, criu_add_inherit_fd, (int fd, const char *key));
	HAS(int, criu_add_external, (const char *key));
	HAS(int, criu_set_page_server_address_port, (const char *address, int port));
	HAS(int, criu_set_pre_dump_mode, (enum criu_pre_dump_mode mode));
	HAS(void, criu_set_pidfd_store_sk, (int sk));
	HAS(int, criu_set_network_lock, (enum criu_network_lock_method method));
	HAS(int, criu_join_ns_add, (const char *ns, const char *ns_file, const char *extra_opt));
	HAS(void, criu_set_mntns_compat_mode, (bool val));
	HAS(int, criu_set_config_file, (const char *path));
	HAS(void, criu_set_notify_cb, (int (*cb)(char *action, criu_notify_arg_t na)));
	HAS(int, criu_notify_pid, (criu_notify_arg_t na));
	HAS(int, criu_get_orphan_pts_master_fd, (void));
	HAS(int, criu_check, (void));
	HAS(int, criu_dump, (void));
	HAS(int, criu_pre_dump, (void));
	HAS(int, criu_restore, (void));
	HAS(int, criu_restore_child, (void));
	HAS(int, criu_dump_iters, (int (*more)(criu_predump_info pi)));
	HAS(int, criu_get_version, (void));
	HAS(int, criu_check_version, (int minimum));
	HAS(int, criu_local_init_opts, (criu_opts **opts));
	HAS(void, criu_local_free_opts, (criu_opts *opts));
	HAS(int, criu_local_set_service_address, (criu_opts *opts, const char *path));
	HAS(void, criu_local_set_service_fd, (criu_opts *opts, int fd));
	HAS(void, criu_local_set_pid, (criu_opts *opts, int pid));
	HAS(void, criu_local_set_images_dir_fd, (criu_opts *opts, int fd));
	HAS(int, criu_local_set_parent_images, (criu_opts *opts, const char *path));
	HAS(int, criu_local_set_service_binary, (criu_opts *opts, const char *path));
	HAS(void, criu_local_set_work_dir_fd, (criu_opts *opts, int fd));
	HAS(void, criu_local_set_leave_running, (criu_opts *opts, bool leave_running));
	HAS(void, criu_local_set_ext_unix_sk, (criu_opts *opts, bool ext_unix_sk));
	HAS(int, criu_local_add_unix_sk, (criu_opts *opts, unsigned int inode));
	HAS(void, criu_local_set_tcp_established, (criu_opts *opts, bool tcp_established));
	HAS(void, criu_local_set_tcp_skip_in_flight, (criu_opts *opts, bool tcp_skip_in_flight));
	HAS(void, criu_local_set_tcp_close, (criu_opts *opts, bool tcp_close));
	HAS(void, criu_local_set_weak_sysctls, (criu_opts *opts, bool val));
	HAS(void, criu_local_set_evasive_devices, (criu_opts *opts, bool evasive_devices));
	HAS(void, criu_local_set_shell_job, (criu_opts *opts, bool shell_job));
	HAS(void, criu_local_set_skip_file_rwx_check, (criu_opts *opts, bool skip_file_rwx_check));
	HAS(void, criu_local_set_orphan_pts_master, (criu_opts *opts, bool orphan_pts_master));
	HAS(void, criu_local_set_file_locks, (criu_opts *opts, bool file_locks));
	HAS(void, criu_local_set_track_mem, (criu_opts *opts, bool track_mem));
	HAS(void, criu_local_set_auto_dedup, (criu_opts *opts, bool auto_dedup));
	HAS(void, criu_local_set_force_irmap, (criu_opts *opts, bool force_irmap));
	HAS(void, criu_local_set_link_remap, (criu_opts *opts, bool link_remap));
	HAS(void, criu_local_set_log_level, (criu_opts *opts, int log_level));
	HAS(int, criu_local_set_log_file, (criu_opts *opts, const char *log_file));
	HAS(void, criu_local_set_cpu_cap, (criu_opts *opts, unsigned int cap));
	HAS(int, criu_local_set_root, (criu_opts *opts, const char *root));
	HAS(void, criu_local_set_manage_cgroups, (criu_opts *opts, bool manage));
	HAS(void, criu_local_set_manage_cgroups_mode, (criu_opts *opts, enum criu_cg_mode mode));
	HAS(int, criu_local_set_freeze_cgroup, (criu_opts *opts, const char *name));
	HAS(int, criu_local_set_lsm_profile, (criu_opts *opts, const char *name));
	HAS(int, criu_local_set_lsm_mount_context, (criu_opts *opts, const char *name));
	HAS(void, criu_local_set_timeout, (criu_opts *opts, unsigned int timeout));
	HAS(void, criu_local_set_auto_ext_mnt, (criu_opts *opts, bool val));
	HAS(void, criu_local_set_ext_sharing, (criu_opts *opts, bool val));
	HAS(void, criu_local_set_ext_masters, (criu_opts *opts, bool val));
	HAS(int, criu_local_set_exec_cmd, (criu_opts *opts, int argc, char *argv[]));
	HAS(int, criu_local_add_ext_mount, (criu_opts *opts, const char *key, const char *val));
	HAS(int, criu_local_add_veth_pair, (criu_opts *opts, const char *in, const char *out));
	HAS(int, criu_local_add_cg_root, (criu_opts *opts, const char *ctrl, const char *path));
	HAS(int, criu_local_add_enable_fs, (criu_opts *opts, const char *fs));
	HAS(int, criu_local_add_skip_mnt, (criu_opts *opts, const char *mnt));
	HAS(void, criu_local_set_ghost_limit, (criu_opts *opts, unsigned int limit));
	HAS(int, criu_local_add_irmap_path, (criu_opts *opts, const char *path));
	HAS(int, criu_local_add_cg_props, (criu_opts *opts, const char *stream));
	HAS(int, criu_local_add_cg_props_file, (criu_opts *opts, const char *path));
	HAS(int, criu_local_add_cg_dump_controller, (criu_opts *opts, const char *name));
	HAS(int, criu_local_add_cg_yard, (criu_opts *opts, const char *path));
	HAS(int, criu_local_add_inherit_fd, (criu_opts *opts, int fd, const char *key));
	HAS(int, criu_local_add_external, (criu_opts *opts, const char *key));
	HAS(int, criu_local_set_page_server_address_port, (criu_opts *opts, const char *address, int port));
	HAS(int, criu_local_set_pre_dump_mode, (criu_opts *opts, enum criu_pre_dump_mode mode));
	HAS(void, criu_local_set_pidfd_store_sk, (criu_opts *opts, int sk));
	HAS(int, criu_local_set_network_lock, (criu_opts *opts, enum criu_network_lock_method method));
	HAS(int, criu_local_join_ns_add, (criu_opts *opts, const char *ns, const char *ns_file, const char *extra_opt));
	HAS(void, criu_local_set_mntns_compat_mode, (criu_opts *opts, bool val));
	HAS(int, criu_local_set_config_file, (criu_opts *opts, const char *path));
	HAS(void, criu_local_set_notify_cb, (criu_opts *opts, int (*cb)(char *action, criu_notify_arg_t na)));
	HAS(int, criu_local_check, (criu_opts *opts));
	HAS(int, criu_local_dump, (criu_opts *opts));
	HAS(int, criu_local_pre_dump, (criu_opts *opts));
	HAS(int, criu_local_restore, (criu_opts *opts));
	HAS(int, criu_local_restore_child, (criu_opts *opts));
	HAS(int, criu_local_dump_iters, (criu_opts *opts, int (*more)(criu_predump_info pi)));
	HAS(int, criu_local_get_version, (criu_opts *opts));
	HAS(int, criu_local_check_version, (criu_opts *opts, int minimum));
	HAS(int, criu_feature_check, (struct criu_feature_check *features, size_t size));
	HAS(int, criu_local_feature_check, (criu_opts *opts, struct criu_feature_check *features, size_t size));
	HAS(void, criu_local_set_empty_ns, (criu_opts *opts, int namespaces));
	HAS(void, criu_set_empty_ns, (int namespaces));
	return 0;
}

static int added(void)
{
	HAS(void, criu_local_set_unprivileged, (criu_opts *, bool));
	HAS(void, criu_free_service, (criu_opts *));
	HAS(const char *, criu_last_error, (void));
	HAS(const char *, criu_local_last_error, (const criu_opts *));
	HAS(int, criu_set_service_inprocess, (void));
	HAS(int, criu_local_set_service_inprocess, (criu_opts *));
	HAS(int, criu_snapshot, (const char *));
	HAS(int, criu_local_snapshot, (criu_opts *, const char *));
	HAS(void, criu_set_notify_cb_data, (int (*)(char *, criu_notify_arg_t, void *), void *));
	HAS(void, criu_local_set_notify_cb_data, (criu_opts *, int (*)(char *, criu_notify_arg_t, void *), void *));
	HAS(void, criu_set_lazy_pages, (bool));
	HAS(void, criu_local_set_lazy_pages, (criu_opts *, bool));
	HAS(void, criu_set_leave_stopped, (bool));
	HAS(void, criu_local_set_leave_stopped, (criu_opts *, bool));
	HAS(void, criu_set_display_stats, (bool));
	HAS(void, criu_local_set_display_stats, (criu_opts *, bool));
	HAS(void, criu_set_log_to_stderr, (bool));
	HAS(void, criu_local_set_log_to_stderr, (criu_opts *, bool));
	HAS(void, criu_set_tls, (bool));
	HAS(void, criu_local_set_tls, (criu_opts *, bool));
	HAS(void, criu_set_tls_no_cn_verify, (bool));
	HAS(void, criu_local_set_tls_no_cn_verify, (criu_opts *, bool));
	HAS(void, criu_set_status_fd, (int));
	HAS(void, criu_local_set_status_fd, (criu_opts *, int));
	HAS(int, criu_set_images_dir, (const char *));
	HAS(int, criu_local_set_images_dir, (criu_opts *, const char *));
	HAS(int, criu_set_tls_cacert, (const char *));
	HAS(int, criu_local_set_tls_cacert, (criu_opts *, const char *));
	HAS(int, criu_set_tls_cacrl, (const char *));
	HAS(int, criu_local_set_tls_cacrl, (criu_opts *, const char *));
	HAS(int, criu_set_tls_cert, (const char *));
	HAS(int, criu_local_set_tls_cert, (criu_opts *, const char *));
	HAS(int, criu_set_tls_key, (const char *));
	HAS(int, criu_local_set_tls_key, (criu_opts *, const char *));
	HAS(int, criu_add_cg_props, (const char *));
	HAS(int, criu_add_cg_props_file, (const char *));
	HAS(int, criu_add_cg_dump_controller, (const char *));
	HAS(int, criu_add_cg_yard, (const char *));
	return 0;
}

static int constants(void)
{
	struct criu_feature_check features = { false, false, false };
	criu_predump_info info = NULL;
	enum criu_service_comm comm = CRIU_COMM_BIN;
	int sum = CRIU_COMM_SK + CRIU_COMM_FD * 10 + (int)comm * 100;

	(void)info;
	if (sum != 210 || sizeof(features) != 3)
		return missing("an enum or struct");
	if (CRIU_CG_MODE_IGNORE != 0 || CRIU_CG_MODE_NONE != 1 || CRIU_CG_MODE_PROPS != 2 ||
	    CRIU_CG_MODE_SOFT != 3 || CRIU_CG_MODE_FULL != 4 || CRIU_CG_MODE_STRICT != 5 ||
	    CRIU_CG_MODE_DEFAULT != 6)
		return missing("a cgroup mode");
	if (CRIU_NETWORK_LOCK_IPTABLES != 1 || CRIU_NETWORK_LOCK_NFTABLES != 2 || CRIU_NETWORK_LOCK_SKIP != 3 ||
	    CRIU_PRE_DUMP_SPLICE != 1 || CRIU_PRE_DUMP_READ != 2)
		return missing("a mode");
	if (CRIU_LOG_UNSET != -1 || CRIU_LOG_MSG != 0 || CRIU_LOG_ERROR != 1 || CRIU_LOG_WARN != 2 ||
	    CRIU_LOG_INFO != 3 || CRIU_LOG_DEBUG != 4)
		return missing("a log level");
	if (strcmp(criu_lib_version, CRIU_VERSION) || CRIU_VERSION_MAJOR != 4 || CRIU_VERSION_MINOR != 2)
		return missing("the version");
	return 0;
}

int main(void)
{
	if (upstream() || added() || constants())
		return 1;
	printf("ok ABI\n");
	return 0;
}
