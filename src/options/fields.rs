//! The values that a request may carry.
//!
//! A field is `None` (or empty) where nothing was said: a face passes on only what its caller said,
//! and a configuration file that is read later may say more. What holds when nothing was said is
//! the method of the same name. Names are bytes, as the kernel has them.

use std::ffi::OsString;

use super::values::{
    CgroupMode, CgroupRoot, FileValidation, InheritFd, JoinNs, NetworkLock, PageServer, Pair,
    PreDumpMode,
};
use crate::objects::cpu::cpu_cap;

macro_rules! options {
    (
        flags { $($(#[$flag_doc:meta])* $flag:ident,)* }
        numbers { $($(#[$number_doc:meta])* $number:ident: $number_type:ty = $default:expr,)* }
        others { $($(#[$other_doc:meta])* $other:ident: $other_type:ty,)* }
    ) => {
        /// Everything a request may say.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Options {
            $($(#[$flag_doc])* pub $flag: Option<bool>,)*
            $($(#[$number_doc])* pub $number: Option<$number_type>,)*
            $($(#[$other_doc])* pub $other: $other_type,)*
        }

        /// The names of all of them.
        #[cfg(test)]
        pub(super) const FIELDS: &[&str] =
            &[$(stringify!($flag),)* $(stringify!($number),)* $(stringify!($other),)*];

        impl Options {
            $($(#[$flag_doc])* pub fn $flag(&self) -> bool {
                self.$flag.unwrap_or(false)
            })*
            $($(#[$number_doc])* pub fn $number(&self) -> $number_type {
                self.$number.unwrap_or($default)
            })*
        }
    };
}

options! {
    flags {
        /// The tree runs on after its dump.
        leave_running,
        /// The tree stays stopped after its dump or restore.
        leave_stopped,
        /// The session and the terminal may be outside the tree.
        shell_job,
        /// Unix sockets may have a peer outside the tree.
        ext_unix_sk,
        /// Established TCP connections are carried.
        tcp_established,
        /// TCP connections that are still being made are left out.
        tcp_skip_in_flight,
        /// TCP connections are restored closed.
        tcp_close,
        /// Sysctls that do not exist here are left out.
        weak_sysctls,
        /// A device may be opened by another path than the dumped one.
        evasive_devices,
        /// Permission bits of files may have changed since the dump.
        skip_file_rwx_check,
        /// File locks are carried.
        file_locks,
        /// Changed pages are tracked for the next dump.
        track_mem,
        /// Pages that a newer dump replaces are removed from the older one.
        auto_dedup,
        /// A file that has lost one of its names may get a link of ours.
        link_remap,
        /// Paths of inotify watches are looked for in the file system.
        force_irmap,
        /// Pages are restored on demand.
        lazy_pages,
        /// The restored root becomes the caller's child.
        rst_sibling,
        /// The engine does not wait for the restored root (command line only).
        restore_detached,
        /// The caller is asked at every stage.
        notify_scripts,
        /// External mounts are found without being named.
        auto_ext_mnt,
        /// Mounts may share propagation with mounts outside.
        ext_sharing,
        /// Mounts may have a master outside.
        ext_masters,
        /// The master of a terminal left without one is sent to the caller.
        orphan_pts_master,
        /// Mounts are restored the older way.
        mntns_compat_mode,
        /// Limits of a caller who is not root are accepted.
        unprivileged,
        /// Statistics are printed at the end.
        display_stats,
        /// The log goes to standard error.
        log_to_stderr,
        /// A log of its own for each restored task (command line only).
        log_pid,
        /// Pages go to, or come from, a page server.
        use_page_server,
        /// The images are streamed (command line only).
        stream,
        /// Unlinked files are copied by their extents (command line only).
        ghost_fiemap,
        /// The uprobes mapping is accepted (command line only).
        allow_uprobes,
        /// Deprecated behaviour is accepted (command line only).
        deprecated,
        /// TLS for the page server.
        tls,
        /// The name in the page server's certificate is not verified.
        tls_no_cn_verify,
        /// `check`: features beyond the needed ones.
        check_extra,
        /// `check`: experimental features.
        check_experimental,
    }
    numbers {
        /// 1 errors, 2 warnings, 3 information, 4 everything.
        log_level: i32 = 2,
        /// The largest unlinked file whose contents go into the images, in bytes.
        ghost_limit: u64 = 1 << 20,
        /// Seconds that stopping the tree may take; 0 is no limit.
        timeout: u32 = 10,
        /// Which properties of the processor are written and compared.
        cpu_cap: u32 = cpu_cap::DEFAULT,
        /// `CLONE_NEW*` of namespaces that are made empty.
        empty_ns: u32 = 0,
        /// Control groups.
        manage_cgroups: CgroupMode = CgroupMode::Default,
        /// How the network is silenced.
        network_lock: NetworkLock = NetworkLock::Iptables,
        /// How a pre-dump reads.
        pre_dump_mode: PreDumpMode = PreDumpMode::Splice,
        /// How files are compared.
        file_validation: FileValidation = FileValidation::Buildid,
    }
    others {
        /// Root of the tree to dump.
        pid: Option<i32>,
        /// Image directory: a descriptor of the caller.
        images_dir_fd: Option<i32>,
        /// Image directory: a path.
        images_dir: Option<OsString>,
        /// Work directory: a descriptor of the caller.
        work_dir_fd: Option<i32>,
        /// Work directory: a path.
        work_dir: Option<OsString>,
        /// Images of the dump before this one, relative to the image directory.
        parent_img: Option<OsString>,
        /// Log file in the work directory; `-` is standard output.
        log_file: Option<OsString>,
        /// Where the pid of the root is written.
        pidfile: Option<OsString>,
        /// A zero byte is written to it when the engine is ready.
        status_fd: Option<i32>,
        /// The root of the restored tasks' file system.
        root: Option<OsString>,
        /// Programs run at every stage.
        action_scripts: Vec<OsString>,
        /// What takes the engine's place after a restore.
        exec_cmd: Vec<OsString>,
        /// Namespaces to restore into.
        join_ns: Vec<JoinNs>,
        /// Descriptors that stand for objects of the image.
        inherit_fd: Vec<InheritFd>,
        /// Objects that belong to the outside.
        external: Vec<OsString>,
        /// Unix sockets that may have a peer outside, by inode.
        unix_sk_ino: Vec<u32>,
        /// External mounts: mount point and name.
        ext_mnt: Vec<Pair>,
        /// Pairs of virtual Ethernet devices: inner and outer name.
        veths: Vec<Pair>,
        /// Mount points that are left out.
        skip_mnt: Vec<OsString>,
        /// File systems that are carried though they are not known.
        enable_fs: Vec<OsString>,
        /// Where inotify watches are looked for.
        irmap_scan_paths: Vec<OsString>,
        /// Roots of the restored control groups.
        cg_root: Vec<CgroupRoot>,
        /// Control group properties, as YAML.
        cgroup_props: Option<OsString>,
        /// The same from a file.
        cgroup_props_file: Option<OsString>,
        /// Controllers that are dumped.
        cgroup_dump_controller: Vec<OsString>,
        /// A directory where the control groups are mounted already.
        cgroup_yard: Option<OsString>,
        /// The control group whose freezer stops the tree.
        freeze_cgroup: Option<OsString>,
        /// Security profile for the restored tasks.
        lsm_profile: Option<OsString>,
        /// Security context for restored mounts.
        lsm_mount_context: Option<OsString>,
        /// The page server.
        ps: Option<PageServer>,
        /// A socket that keeps pidfds between pre-dumps.
        pidfd_store_sk: Option<i32>,
        /// TLS: certificate of the authority.
        tls_cacert: Option<OsString>,
        /// TLS: revocation list.
        tls_cacrl: Option<OsString>,
        /// TLS: own certificate.
        tls_cert: Option<OsString>,
        /// TLS: own key.
        tls_key: Option<OsString>,
        /// A configuration file that overrides this request (RPC).
        config_file: Option<OsString>,
        /// Directory of plugins (command line only).
        libdir: Option<OsString>,
        /// `check`: the features asked for.
        features: Vec<String>,
    }
}
