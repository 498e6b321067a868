/*
 * Wrong uses: calls before criu_init_opts(), NULL, negative descriptors, services that are not
 * there. Each is an error code or has no effect, says why, and prints nothing.
 */
#include "test.h"

static int refuse(char *action, criu_notify_arg_t na)
{
	(void)action;
	(void)na;
	return -5;
}

static void before_init(void)
{
	struct criu_feature_check features = { 0 };
	char *argv[] = { NULL };

	criu_set_pid(1);
	criu_set_images_dir_fd(3);
	criu_set_leave_running(true);
	criu_set_service_fd(-1);
	criu_set_notify_cb(refuse);
	criu_free_opts();
	CHECK(criu_set_service_binary("criu") < 0);
	CHECK(criu_set_service_address(NULL) < 0);
	CHECK(criu_set_log_file("log") < 0);
	CHECK(criu_add_external("mnt[]") < 0);
	CHECK(criu_set_exec_cmd(0, argv) < 0);
	CHECK(criu_set_network_lock(CRIU_NETWORK_LOCK_SKIP) < 0);
	CHECK_EQ(criu_dump(), -EINVAL);
	CHECK_EQ(criu_pre_dump(), -EINVAL);
	CHECK_EQ(criu_restore(), -EINVAL);
	CHECK_EQ(criu_restore_child(), -EINVAL);
	CHECK_EQ(criu_dump_iters(NULL), -EINVAL);
	CHECK_EQ(criu_check(), -EINVAL);
	CHECK_EQ(criu_get_version(), -EINVAL);
	CHECK_EQ(criu_check_version(1), -EINVAL);
	CHECK(criu_feature_check(&features, sizeof(features)) < 0);
	CHECK_EQ(errno, EINVAL);
	CHECK(strstr(criu_last_error(), "criu_init_opts") != NULL);
	CHECK_EQ(criu_get_orphan_pts_master_fd(), -1);
	CHECK_EQ(criu_notify_pid(NULL), 0);
	passed("calls before criu_init_opts()");
}

static void null_options(void)
{
	CHECK_EQ(criu_local_init_opts(NULL), -1);
	criu_local_free_opts(NULL);
	criu_free_service(NULL);
	criu_local_set_pid(NULL, 1);
	criu_local_set_notify_cb(NULL, refuse);
	criu_local_set_unprivileged(NULL, true);
	CHECK(criu_local_set_log_file(NULL, "log") < 0);
	CHECK(criu_local_add_inherit_fd(NULL, 3, "key") < 0);
	CHECK(criu_local_join_ns_add(NULL, "net", "file", NULL) < 0);
	CHECK_EQ(criu_local_dump(NULL), -EINVAL);
	CHECK_EQ(criu_local_restore_child(NULL), -EINVAL);
	CHECK_EQ(criu_local_get_version(NULL), -EINVAL);
	CHECK(strlen(criu_local_last_error(NULL)) > 0);
	passed("NULL options");
}

static void null_arguments(void)
{
	char *argv[] = { (char *)"sh", NULL };

	CHECK_EQ(criu_init_opts(), 0);
	CHECK(criu_set_log_file(NULL) < 0);
	CHECK(strstr(criu_last_error(), "log_file") != NULL);
	CHECK(criu_set_root(NULL) < 0);
	CHECK(criu_set_parent_images(NULL) < 0);
	CHECK(criu_set_config_file(NULL) < 0);
	CHECK(criu_set_freeze_cgroup(NULL) < 0);
	CHECK(criu_set_lsm_profile(NULL) < 0);
	CHECK(criu_add_ext_mount(NULL, "val") < 0);
	CHECK(criu_add_ext_mount("key", NULL) < 0);
	CHECK(criu_add_veth_pair(NULL, NULL) < 0);
	CHECK(criu_add_enable_fs(NULL) < 0);
	CHECK(criu_add_skip_mnt(NULL) < 0);
	CHECK(criu_add_irmap_path(NULL) < 0);
	CHECK(criu_add_external(NULL) < 0);
	CHECK(criu_add_cg_props(NULL) < 0);
	CHECK(criu_add_cg_root("cpu", NULL) < 0);
	CHECK(criu_set_page_server_address_port(NULL, 1) < 0);
	CHECK(criu_set_exec_cmd(2, NULL) < 0);
	CHECK(criu_set_exec_cmd(2, argv) < 0);
	CHECK(criu_set_exec_cmd(-1, argv) < 0);
	CHECK_EQ(criu_join_ns_add(NULL, "file", NULL), -1);
	CHECK_EQ(criu_join_ns_add("net", NULL, NULL), -1);
	CHECK(criu_add_inherit_fd(3, NULL) < 0);
	CHECK(criu_add_inherit_fd(-1, "key") < 0);
	CHECK_EQ(criu_set_network_lock((enum criu_network_lock_method)77), -1);
	CHECK_EQ(criu_set_pre_dump_mode((enum criu_pre_dump_mode)0), -1);
	CHECK_EQ(criu_feature_check(NULL, 0), -1);
	criu_set_notify_cb(NULL);
	passed("NULL arguments");
}

/* What real callers pass. */
static void odd_but_right(void)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)"true" };

	CHECK_EQ(criu_init_opts(), 0);
	CHECK_EQ(criu_init_opts(), 0);
	CHECK_EQ(criu_add_cg_root(NULL, "/"), 0);
	CHECK_EQ(criu_join_ns_add("net", "/proc/self/ns/net", NULL), 0);
	CHECK_EQ(criu_join_ns_add("user", "/proc/self/ns/user", "0,0"), 0);
	CHECK_EQ(criu_set_page_server_address_port("localhost", 1234), 0);
	CHECK_EQ(criu_set_page_server_address_port("localhost", 1235), 0);
	CHECK_EQ(criu_set_exec_cmd(3, argv), 0);
	CHECK_EQ(criu_set_exec_cmd(0, NULL), 0);
	CHECK_EQ(criu_set_log_file("a"), 0);
	CHECK_EQ(criu_set_log_file("no UTF-8: \xff"), 0);
	CHECK_EQ(criu_add_unix_sk(5), 0);
	criu_set_ext_unix_sk(false);
	CHECK_EQ(criu_add_unix_sk(6), -1);
	CHECK_EQ(criu_set_service_address(NULL), 0);
	CHECK_EQ(criu_add_inherit_fd(3, "key"), -1);
	CHECK_EQ(criu_set_service_binary(NULL), 0);
	CHECK_EQ(criu_add_inherit_fd(3, "key"), 0);
	criu_free_opts();
	criu_free_opts();
	passed("odd but right arguments");
}

static void no_service(void)
{
	char longest[300];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	CHECK_EQ(criu_init_opts(), 0);
	CHECK_EQ(criu_set_service_address("/nowhere/socket"), 0);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	CHECK_EQ(errno, ENOENT);
	CHECK(strstr(criu_last_error(), "/nowhere/socket") != NULL);
	CHECK_EQ(criu_set_service_address(longest), 0);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	criu_set_service_fd(-1);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	criu_set_service_fd(1000);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	CHECK_EQ(errno, EBADF);
	CHECK_EQ(criu_set_service_binary("/nowhere/criu"), 0);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	CHECK_EQ(errno, ENOENT);
	CHECK(strstr(criu_last_error(), "/nowhere/criu") != NULL);
	CHECK_EQ(criu_restore_child(), -ECONNREFUSED);
	CHECK_EQ(criu_set_service_binary("no-such-criu"), 0);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	CHECK_EQ(criu_set_service_binary("/dev/null"), 0);
	CHECK_EQ(criu_check(), -ECONNREFUSED);
	CHECK_EQ(errno, EACCES);
	/* A program that is no worker. */
	CHECK_EQ(criu_set_service_binary("true"), 0);
	CHECK_EQ(criu_check(), -ECOMM);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	CHECK_EQ(errno, ECHILD);
	criu_free_opts();
	passed("services that are not there");
}

int main(void)
{
	before_init();
	null_options();
	null_arguments();
	odd_but_right();
	no_service();
	return 0;
}
