# Generated: run `make manual'.

_criu()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	if [[ $cur == = ]]; then cur=
	elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
	case $prev in
	-t|--tree) COMPREPLY=($(compgen -W "$(cd /proc && echo [0-9]*)" -- "$cur")); return ;;
	-D|--images-dir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	-W|--work-dir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	--pidfile) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--timeout) return ;;
	--action-script) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--verbosity) [[ ${COMP_WORDS[*]:COMP_CWORD-1} == *=* ]] && { return; } ;;
	-o|--log-file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--status-fd) return ;;
	--cpu-cap) [[ ${COMP_WORDS[*]:COMP_CWORD-1} == *=* ]] && { COMPREPLY=($(compgen -W 'cpu fpu ins all none' -- "$cur")); return; } ;;
	-L|--libdir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	--feature) COMPREPLY=($(compgen -W 'map_files kcmp set_mm_map peeksiginfo pidfd_store clone3_set_tid can_map_vdso pagemap_scan get_rseq_conf mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock seccomp_suspend seccomp_filters loginuid cgroupns autofs tcp_half_closed compat_cr uffd uffd-noncoop sk_ns sk_unix_file net_diag_raw nsid link_nsid kcmp_epoll timens external_net_ns newifindex nftables has_ipt_legacy ns_pid apparmor_stacking network_lock_nftables sockopt_buf_lock memfd_hugetlb move_mount_set_group openat2 ipv6_freebind timer_cr_ids overlayfs_maps breakpoints pagemap_scan_guard_pages' -- "$cur")); return ;;
	--ext-unix-sk) [[ ${COMP_WORDS[*]:COMP_CWORD-1} == *=* ]] && { return; } ;;
	--ghost-limit) return ;;
	--file-validation) COMPREPLY=($(compgen -W 'filesize buildid' -- "$cur")); return ;;
	--irmap-scan-path) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--external) return ;;
	--inherit-fd) return ;;
	--network-lock) COMPREPLY=($(compgen -W 'iptables nftables skip' -- "$cur")); return ;;
	--veth-pair) return ;;
	--manage-cgroups) [[ ${COMP_WORDS[*]:COMP_CWORD-1} == *=* ]] && { COMPREPLY=($(compgen -W 'none props soft full strict ignore' -- "$cur")); return; } ;;
	--cgroup-root) return ;;
	--cgroup-props) return ;;
	--cgroup-props-file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--cgroup-dump-controller) return ;;
	--cgroup-yard) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--freeze-cgroup) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	-J|--join-ns) return ;;
	--empty-ns) return ;;
	-r|--root) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	-M|--ext-mount-map) return ;;
	--skip-mnt) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--enable-fs) return ;;
	--lsm-profile) return ;;
	--lsm-mount-context) return ;;
	--prev-images-dir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	--pre-dump-mode) COMPREPLY=($(compgen -W 'splice read' -- "$cur")); return ;;
	--address) return ;;
	--port) return ;;
	--ps-socket) return ;;
	--tls-cacert) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--tls-cacrl) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--tls-cert) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--tls-key) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--config) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--close) return ;;
	cpuinfo) COMPREPLY=($(compgen -W 'dump check' -- "$cur")); return ;;
	esac
	case $cur in
	-*) COMPREPLY=($(compgen -W '-t --tree -R --leave-running -s --leave-stopped -d --restore-detached --daemon --no-restore-detached --no-daemon -S --restore-sibling --no-restore-sibling -D --images-dir -W --work-dir --pidfile -j --shell-job --no-shell-job --timeout --action-script -v --verbosity -o --log-file --log-pid --no-log-pid --display-stats --no-display-stats --status-fd --unprivileged --no-unprivileged --cpu-cap -L --libdir --deprecated --no-deprecated --extra --no-extra --experimental --no-experimental --feature -x --ext-unix-sk --evasive-devices --no-evasive-devices --link-remap --no-link-remap --ghost-limit --ghost-fiemap --no-ghost-fiemap -l --file-locks --no-file-locks --skip-file-rwx-check --no-skip-file-rwx-check --file-validation --force-irmap --no-force-irmap --irmap-scan-path --external --inherit-fd --tcp-established --no-tcp-established --skip-in-flight --no-skip-in-flight --tcp-close --no-tcp-close --network-lock --veth-pair --manage-cgroups --cgroup-root --cgroup-props --cgroup-props-file --cgroup-dump-controller --cgroup-yard --freeze-cgroup -J --join-ns --empty-ns -r --root -M --ext-mount-map --enable-external-sharing --enable-external-masters --skip-mnt --enable-fs --mntns-compat-mode --no-mntns-compat-mode --weak-sysctls --no-weak-sysctls --lsm-profile --lsm-mount-context --prev-images-dir --track-mem --no-track-mem --auto-dedup --no-auto-dedup --lazy-pages --pre-dump-mode --allow-uprobes --no-allow-uprobes --stream --no-stream --page-server --no-page-server --address --port --ps-socket --tls --no-tls --tls-no-cn-verify --tls-cacert --tls-cacrl --tls-cert --tls-key -h --help -V --version --config --no-default-config --exec-cmd --close --all --json --ms' -- "$cur")); return ;;
	*) COMPREPLY=($(compgen -W 'dump restore check show continue dedup cpuinfo service swrk pre-dump page-server lazy-pages' -- "$cur")); return ;;
	esac
} &&
complete -o default -F _criu criu
