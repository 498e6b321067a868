/*
 * A container runtime opens the library by its soname and looks up what it needs by name, as crun
 * does. Nothing is linked. The library can be opened, used, closed and opened again.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const NEEDED[] = {
	"criu_add_ext_mount",
	"criu_add_external",
	"criu_add_inherit_fd",
	"criu_check_version",
	"criu_dump",
	"criu_get_orphan_pts_master_fd",
	"criu_init_opts",
	"criu_join_ns_add",
	"criu_feature_check",
	"criu_pre_dump",
	"criu_restore_child",
	"criu_set_ext_unix_sk",
	"criu_set_file_locks",
	"criu_set_freeze_cgroup",
	"criu_set_images_dir_fd",
	"criu_set_leave_running",
	"criu_set_log_file",
	"criu_set_log_level",
	"criu_set_manage_cgroups",
	"criu_set_manage_cgroups_mode",
	"criu_set_network_lock",
	"criu_set_notify_cb",
	"criu_set_orphan_pts_master",
	"criu_set_parent_images",
	"criu_set_pid",
	"criu_set_root",
	"criu_add_cg_root",
	"criu_set_shell_job",
	"criu_set_tcp_established",
	"criu_set_tcp_close",
	"criu_set_track_mem",
	"criu_set_work_dir_fd",
	"criu_set_lsm_profile",
	"criu_set_lsm_mount_context",
	"criu_set_config_file",
};

int main(void)
{
	for (int round = 0; round < 3; round++) {
		void *library = dlopen("libcriu.so.2", RTLD_NOW);
		int (*init)(void), (*version)(int);
		int (*binary)(const char *);

		if (!library) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
		for (size_t i = 0; i < sizeof(NEEDED) / sizeof(NEEDED[0]); i++) {
			if (!dlsym(library, NEEDED[i])) {
				fprintf(stderr, "%s\n", dlerror());
				return 1;
			}
		}
		*(void **)&init = dlsym(library, "criu_init_opts");
		*(void **)&version = dlsym(library, "criu_check_version");
		*(void **)&binary = dlsym(library, "criu_set_service_binary");
		if (init() != 0)
			return 2;
		if (getenv("CRIU_TEST_WORKER"))
			binary(getenv("CRIU_TEST_WORKER"));
		if (version(31500) != 1 || version(990000) != 0)
			return 3;
		dlclose(library);
	}
	printf("ok dlopen\n");
	return 0;
}
