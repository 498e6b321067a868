#compdef criu
# Generated: run `make manual'.

_arguments -S \
	'*-t+[the tree of processes whose root is PID]:value:_pids' \
	'*--tree=[the tree of processes whose root is PID]:value:_pids' \
	'*-R[the tree runs on after its dump]' \
	'*--leave-running[the tree runs on after its dump]' \
	'*-s[the tree stays stopped after its dump or restore]' \
	'*--leave-stopped[the tree stays stopped after its dump or restore]' \
	'*-d[do not wait for the restored root task; serve in the background]' \
	'*--restore-detached[do not wait for the restored root task; serve in the background]' \
	'*--daemon[do not wait for the restored root task; serve in the background]' \
	'*--no-restore-detached[do not wait for the restored root task; serve in the background]' \
	'*--no-daemon[do not wait for the restored root task; serve in the background]' \
	'*-S[restore the root task as a child of the caller]' \
	'*--restore-sibling[restore the root task as a child of the caller]' \
	'*--no-restore-sibling[restore the root task as a child of the caller]' \
	'*-D+[directory of the images]:value:_files -/' \
	'*--images-dir=[directory of the images]:value:_files -/' \
	'*-W+[directory of log, pid file and statistics]:value:_files -/' \
	'*--work-dir=[directory of log, pid file and statistics]:value:_files -/' \
	'*--pidfile=[write the pid of the root task, or of the service, to FILE]:value:_files' \
	'*-j[session and terminal may be outside the tree]' \
	'*--shell-job[session and terminal may be outside the tree]' \
	'*--no-shell-job[session and terminal may be outside the tree]' \
	'*--timeout=[how long stopping the tree may take; how long a service waits for a user]:value: ' \
	'*--action-script=[run FILE at every stage]:value:_files' \
	'*-v-[1 errors, 2 warnings too, 3 information and time stamps too, 4 everything]::value: ' \
	'*--verbosity=-[1 errors, 2 warnings too, 3 information and time stamps too, 4 everything]::value: ' \
	'*-o+[log to FILE in the work directory]:value:_files' \
	'*--log-file=[log to FILE in the work directory]:value:_files' \
	'*--log-pid[a log of its own for each restored task  the log files name and the pid]' \
	'*--no-log-pid[a log of its own for each restored task  the log files name and the pid]' \
	'*--display-stats[print statistics at the end]' \
	'*--no-display-stats[print statistics at the end]' \
	'*--status-fd=[write a zero byte to FD when requests can be served]:value: ' \
	'*--unprivileged[accept the limits of a caller who is not root]' \
	'*--no-unprivileged[accept the limits of a caller who is not root]' \
	'*--cpu-cap=-[properties of the processor to write and compare  cpu, fpu, ins, all, none]::value:(cpu fpu ins all none)' \
	'*-L+[directory of plugins  there must be none in it]:value:_files -/' \
	'*--libdir=[directory of plugins  there must be none in it]:value:_files -/' \
	'*--deprecated[accept deprecated behaviour]' \
	'*--no-deprecated[accept deprecated behaviour]' \
	'*--extra[check features that only some trees need, too]' \
	'*--no-extra[check features that only some trees need, too]' \
	'*--experimental[check experimental features, too]' \
	'*--no-experimental[check experimental features, too]' \
	'*--feature=[check this feature only]:value:(map_files kcmp set_mm_map peeksiginfo pidfd_store clone3_set_tid can_map_vdso pagemap_scan get_rseq_conf mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock seccomp_suspend seccomp_filters loginuid cgroupns autofs tcp_half_closed compat_cr uffd uffd-noncoop sk_ns sk_unix_file net_diag_raw nsid link_nsid kcmp_epoll timens external_net_ns newifindex nftables has_ipt_legacy ns_pid apparmor_stacking network_lock_nftables sockopt_buf_lock memfd_hugetlb move_mount_set_group openat2 ipv6_freebind timer_cr_ids overlayfs_maps breakpoints pagemap_scan_guard_pages)' \
	'*-x-[unix sockets may have a peer outside the tree]::value: ' \
	'*--ext-unix-sk=-[unix sockets may have a peer outside the tree]::value: ' \
	'*--evasive-devices[a device may be opened by another path than the dumped one]' \
	'*--no-evasive-devices[a device may be opened by another path than the dumped one]' \
	'*--link-remap[give a file that has lost the name it was opened by, but no other one, a link beside it, which the restore removes]' \
	'*--no-link-remap[give a file that has lost the name it was opened by, but no other one, a link beside it, which the restore removes]' \
	'*--ghost-limit=[the largest unlinked file whose contents go into the images]:value: ' \
	'*--ghost-fiemap[copy unlinked files without their holes, as is done anyway]' \
	'*--no-ghost-fiemap[copy unlinked files without their holes, as is done anyway]' \
	'*-l[carry file locks]' \
	'*--file-locks[carry file locks]' \
	'*--no-file-locks[carry file locks]' \
	'*--skip-file-rwx-check[permission bits of files may have changed since the dump]' \
	'*--no-skip-file-rwx-check[permission bits of files may have changed since the dump]' \
	'*--file-validation=[how files met again are compared  filesize, buildid]:value:(filesize buildid)' \
	'*--force-irmap[look for the paths of inotify watches in the file system]' \
	'*--no-force-irmap[look for the paths of inotify watches in the file system]' \
	'*--irmap-scan-path=[where the paths of inotify watches are looked for]:value:_files' \
	'*--external=[an object that belongs to the outside, as file MOUNT INODE  or tty RDEV DEV ; a key that nothing in the tree has says nothing]:value: ' \
	'*--inherit-fd=[descriptor NUM stands for RES  pipe  INODE , file MOUNT INODE , tty RDEV DEV , /memfd NAME, or a path without its first slash]:value: ' \
	'*--tcp-established[carry established TCP connections]' \
	'*--no-tcp-established[carry established TCP connections]' \
	'*--skip-in-flight[leave out TCP connections that are still being made]' \
	'*--no-skip-in-flight[leave out TCP connections that are still being made]' \
	'*--tcp-close[restore TCP connections closed]' \
	'*--no-tcp-close[restore TCP connections closed]' \
	'*--network-lock=[how the network is silenced  iptables, nftables, skip]:value:(iptables nftables skip)' \
	'*--veth-pair=[the outer name of a pair of virtual Ethernet devices]:value: ' \
	'*--manage-cgroups=-[carry control groups  none, props, soft, full, strict, ignore]::value:(none props soft full strict ignore)' \
	'*--cgroup-root=[root of the control groups of a controller, or of all]:value: ' \
	'*--cgroup-props=[control group properties to carry, as YAML]:value: ' \
	'*--cgroup-props-file=[the same from FILE]:value:_files' \
	'*--cgroup-dump-controller=[carry this control group controller and no other]:value: ' \
	'*--cgroup-yard=[directory where the control groups are mounted already]:value:_files' \
	'*--freeze-cgroup=[stop the tree by the freezer of this control group]:value:_files' \
	'*-J+[restore into an existing namespace (uts, ipc and time; no net, mnt, user, pid)]:value: ' \
	'*--join-ns=[restore into an existing namespace (uts, ipc and time; no net, mnt, user, pid)]:value: ' \
	'*--empty-ns=[make a namespace, but restore nothing in it]:value: ' \
	'*-r+[root of the restored tasks file system, in a mount namespace]:value:_files' \
	'*--root=[root of the restored tasks file system, in a mount namespace]:value:_files' \
	'*-M+[a mount that belongs to the outside; `auto finds them]:value: ' \
	'*--ext-mount-map=[a mount that belongs to the outside; `auto finds them]:value: ' \
	'*--enable-external-sharing[mounts may share propagation with mounts outside]' \
	'*--enable-external-masters[mounts may have a master outside]' \
	'*--skip-mnt=[leave out a mount point]:value:_files' \
	'*--enable-fs=[carry mounts of file systems that are not known]:value: ' \
	'*--mntns-compat-mode[restore mounts the older way]' \
	'*--no-mntns-compat-mode[restore mounts the older way]' \
	'*--weak-sysctls[leave out sysctls that do not exist here]' \
	'*--no-weak-sysctls[leave out sysctls that do not exist here]' \
	'*--lsm-profile=[security profile of the restored tasks]:value: ' \
	'*--lsm-mount-context=[security context of restored mounts]:value: ' \
	'*--prev-images-dir=[images of the dump before this one; only changed pages are written]:value:_files -/' \
	'*--track-mem[track changed pages for the next dump]' \
	'*--no-track-mem[track changed pages for the next dump]' \
	'*--auto-dedup[remove pages from older images as newer ones replace them]' \
	'*--no-auto-dedup[remove pages from older images as newer ones replace them]' \
	'*--lazy-pages[restore pages on demand]' \
	'*--pre-dump-mode=[how a pre-dump reads memory  splice, read]:value:(splice read)' \
	'*--allow-uprobes[accept the mapping of uprobes]' \
	'*--no-allow-uprobes[accept the mapping of uprobes]' \
	'*--stream[send or take the images as a stream]' \
	'*--no-stream[send or take the images as a stream]' \
	'*--page-server[send pages to a page server]' \
	'*--no-page-server[send pages to a page server]' \
	'*--address=[address of the page server; path of the services socket]:value: ' \
	'*--port=[port of the page server]:value: ' \
	'*--ps-socket=[socket of the page server]:value: ' \
	'*--tls[speak TLS with the page server]' \
	'*--no-tls[speak TLS with the page server]' \
	'*--tls-no-cn-verify[do not verify the name in the page servers certificate]' \
	'*--tls-cacert=[certificate of the authority that is trusted]:value:_files' \
	'*--tls-cacrl=[certificates that are revoked]:value:_files' \
	'*--tls-cert=[own certificate]:value:_files' \
	'*--tls-key=[own private key]:value:_files' \
	'*-h[show this text]' \
	'*--help[show this text]' \
	'*-V[show the version]' \
	'*--version[show the version]' \
	'*--config=[read this configuration file]:value:_files' \
	'*--no-default-config[read no default ones]' \
	'*--exec-cmd[restore  run the command after `--]' \
	'*--close=[close a descriptor first]:value: ' \
	'*--all[check  --extra and --experimental]' \
	'*--json[print the result as one JSON object]' \
	'*--ms[refused  it was replaced by --extra and its like]' \
	'1:command:(dump restore check show continue dedup cpuinfo service swrk pre-dump page-server lazy-pages)' \
	'*:argument:_files'
