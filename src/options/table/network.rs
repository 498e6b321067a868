//! Options about the network and control groups.

use super::{Argument, Given, Row, access};
use crate::error::Result;
use crate::images::proto;
use crate::options::Options;
use crate::options::Verb::{self, *};
use crate::options::values::{CgroupMode, CgroupRoot, NetworkLock, Pair};

const BOTH: &[Verb] = &[Dump, Restore];
const NO_CONNECTIONS: &str = "no TCP socket is carried: a process that has one is refused";
const NO_CGROUPS: &str =
    "no control group is carried: a tree in other control groups than criu's own is refused";

pub(super) const ROWS: &[Row] = &[
    flag!(tcp_established)
        .rpc(&[5])
        .long(&["tcp-established"], Argument::Negatable)
        .setters(&["set_tcp_established"])
        .verbs(BOTH)
        .permits(BOTH, NO_CONNECTIONS)
        .help("carry established TCP connections"),
    flag!(tcp_skip_in_flight)
        .rpc(&[46])
        .long(&["skip-in-flight"], Argument::Negatable)
        .setters(&["set_tcp_skip_in_flight"])
        .verbs(&[Dump])
        .permits(&[Dump], NO_CONNECTIONS)
        .help("leave out TCP connections that are still being made"),
    flag!(tcp_close)
        .rpc(&[52])
        .long(&["tcp-close"], Argument::Negatable)
        .setters(&["set_tcp_close"])
        .verbs(BOTH)
        .permits(BOTH, NO_CONNECTIONS)
        .help("restore TCP connections closed"),
    Row {
        from_rpc: |message, options| {
            let method =
                access::known(message.network_lock, NetworkLock::from_rpc, "network_lock")?;
            options.network_lock = method.or(options.network_lock);
            Ok(())
        },
        to_rpc: |options, message| {
            message.network_lock = options.network_lock.map(NetworkLock::to_rpc);
        },
        ..choice!(network_lock, NetworkLock, "iptables, nftables, skip")
    }
    .rpc(&[64])
    .long(&["network-lock"], Argument::Required("METHOD"))
    .setters(&["set_network_lock"])
    .default("iptables")
    .verbs(&[Dump])
    .permits(&[Dump], "no connection is carried: there is nothing to silence")
    .help("how the network is silenced: iptables, nftables, skip"),
    Row {
        name: "veths",
        from_rpc: |message, options| {
            let pair = |veth: &proto::CriuVethPair| Pair {
                first: access::from_bytes(&veth.if_in),
                second: access::from_bytes(&veth.if_out),
            };
            options.veths.extend(message.veths.iter().map(pair));
            Ok(())
        },
        to_rpc: |options, message| {
            let pair = |veth: &Pair| proto::CriuVethPair {
                if_in: access::to_bytes(&veth.first),
                if_out: access::to_bytes(&veth.second),
            };
            message.veths = options.veths.iter().map(pair).collect();
        },
        from_text: |given, options| {
            options.veths.push(access::pair(given, b'=')?);
            Ok(())
        },
        asks: |options| !options.veths.is_empty(),
        ..access::EMPTY
    }
    .rpc(&[19])
    .long(&["veth-pair"], Argument::Required("IN=OUT"))
    .setters(&["add_veth_pair"])
    .verbs(&[Restore])
    .permits(&[Restore], "no network namespace is restored: images that have one are refused")
    .help("the outer name of a pair of virtual Ethernet devices"),
    Row {
        name: "manage_cgroups",
        from_rpc: manage_cgroups_from_rpc,
        to_rpc: |options, message| {
            message.manage_cgroups_mode = options.manage_cgroups.map(CgroupMode::to_rpc);
        },
        from_text: manage_cgroups_from_text,
        asks: |options| options.manage_cgroups.is_some(),
        ..access::EMPTY
    }
    .rpc(&[24, 34])
    .long(&["manage-cgroups"], Argument::Optional("MODE"))
    .setters(&["set_manage_cgroups", "set_manage_cgroups_mode"])
    .default("ignore")
    .verbs(BOTH)
    .permits(BOTH, NO_CGROUPS)
    .help("carry control groups: none, props, soft, full, strict, ignore"),
    Row {
        name: "cg_root",
        from_rpc: |message, options| {
            let root = |root: &proto::CgroupRoot| CgroupRoot {
                controller: root.ctrl.as_deref().map(access::from_bytes),
                path: access::from_bytes(&root.path),
            };
            options.cg_root.extend(message.cg_root.iter().map(root));
            Ok(())
        },
        to_rpc: |options, message| {
            let root = |root: &CgroupRoot| proto::CgroupRoot {
                ctrl: root.controller.as_ref().map(access::to_bytes),
                path: access::to_bytes(&root.path),
            };
            message.cg_root = options.cg_root.iter().map(root).collect();
        },
        from_text: cg_root_from_text,
        asks: |options| !options.cg_root.is_empty(),
        ..access::EMPTY
    }
    .rpc(&[25])
    .long(&["cgroup-root"], Argument::Required("[CONTROLLER:]/NEWROOT"))
    .setters(&["add_cg_root"])
    .verbs(BOTH)
    .permits(BOTH, NO_CGROUPS)
    .help("root of the control groups of a controller, or of all"),
    name!(cgroup_props)
        .rpc(&[41])
        .long(&["cgroup-props"], Argument::Required("STRING"))
        .setters(&["add_cg_props"])
        .verbs(&[Dump])
        .permits(&[Dump], NO_CGROUPS)
        .help("control group properties to carry, as YAML"),
    name!(cgroup_props_file)
        .rpc(&[42])
        .long(&["cgroup-props-file"], Argument::Required("FILE"))
        .setters(&["add_cg_props_file"])
        .verbs(&[Dump])
        .permits(&[Dump], NO_CGROUPS)
        .help("the same from FILE"),
    names!(cgroup_dump_controller)
        .rpc(&[43])
        .long(&["cgroup-dump-controller"], Argument::Required("NAME"))
        .setters(&["add_cg_dump_controller"])
        .verbs(&[Dump])
        .permits(&[Dump], NO_CGROUPS)
        .help("carry this control group controller and no other"),
    name!(cgroup_yard)
        .rpc(&[60])
        .long(&["cgroup-yard"], Argument::Required("PATH"))
        .setters(&["add_cg_yard"])
        .verbs(BOTH)
        .permits(BOTH, NO_CGROUPS)
        .help("directory where the control groups are mounted already"),
    name!(freeze_cgroup)
        .rpc(&[44])
        .long(&["freeze-cgroup"], Argument::Required("PATH"))
        .setters(&["set_freeze_cgroup"])
        .verbs(&[Dump, PreDump])
        .refused("this version stops each process by itself, and no control group as a whole")
        .help("stop the tree by the freezer of this control group"),
];

/// The mode wins over the older yes or no, which stands for soft and ignore.
fn manage_cgroups_from_rpc(message: &proto::CriuOpts, options: &mut Options) -> Result<()> {
    let older = |manage| if manage { CgroupMode::Soft } else { CgroupMode::Ignore };
    let mode =
        access::known(message.manage_cgroups_mode, CgroupMode::from_rpc, "manage_cgroups_mode")?;
    options.manage_cgroups = mode.or(message.manage_cgroups.map(older)).or(options.manage_cgroups);
    Ok(())
}

const CGROUP_MODES: &str = "none, props, soft, full, strict, ignore";

fn manage_cgroups_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    options.manage_cgroups = Some(match given {
        Given::Text(_) => {
            let text = access::text(given)?;
            CgroupMode::from_text(text).ok_or_else(|| access::unknown(text, CGROUP_MODES))?
        }
        Given::Yes | Given::No => CgroupMode::Soft,
    });
    Ok(())
}

fn cg_root_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    let name = access::name(given)?;
    let (controller, path) = match access::split(name, b':') {
        Some((controller, path)) => (Some(controller.to_owned()), path),
        None => (None, name),
    };
    options.cg_root.push(CgroupRoot { controller, path: path.to_owned() });
    Ok(())
}
