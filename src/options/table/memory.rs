//! Options about memory, pre-dumps and the page server.

use super::{Argument, Given, Row, access};
use crate::error::Result;
use crate::images::proto;
use crate::options::Options;
use crate::options::Verb::{self, *};
use crate::options::values::{PageServer as Server, PreDumpMode};

const DUMPS: &[Verb] = &[Dump, PreDump];
const REMOTE: &[Verb] = &[Dump, PreDump, PageServer, LazyPages];
const WITH_PAGE_SERVER: &str = "it says something with --page-server only, which is refused";

pub(super) const ROWS: &[Row] = &[
    name!(parent_img)
        .rpc(&[14])
        .long(&["prev-images-dir"], Argument::Required("DIR"))
        .setters(&["set_parent_images"])
        .verbs(DUMPS)
        .refused("this version writes all memory with every dump")
        .help("images of the dump before this one; only changed pages are written"),
    flag!(track_mem)
        .rpc(&[15])
        .long(&["track-mem"], Argument::Negatable)
        .setters(&["set_track_mem"])
        .verbs(DUMPS)
        .refused("this version writes all memory with every dump and tracks no changes")
        .help("track changed pages for the next dump"),
    flag!(auto_dedup)
        .rpc(&[16])
        .long(&["auto-dedup"], Argument::Negatable)
        .setters(&["set_auto_dedup"])
        .verbs(&[Dump, PreDump, Restore, PageServer])
        .permits(
            &[Dump, Restore],
            "a dump has no older one beneath it, and a restore leaves its images as they are",
        )
        .help("remove pages from older images as newer ones replace them"),
    flag!(lazy_pages)
        .rpc(&[48])
        .long(&["lazy-pages"], Argument::None)
        .setters(&["set_lazy_pages"])
        .verbs(&[Dump, Restore])
        .refused("this version brings all memory back before the tree runs, and none on demand")
        .help("restore pages on demand"),
    Row {
        from_rpc: |message, options| {
            let mode =
                access::known(message.pre_dump_mode, PreDumpMode::from_rpc, "pre_dump_mode")?;
            options.pre_dump_mode = mode.or(options.pre_dump_mode);
            Ok(())
        },
        to_rpc: |options, message| {
            message.pre_dump_mode = options.pre_dump_mode.map(PreDumpMode::to_rpc);
        },
        ..choice!(pre_dump_mode, PreDumpMode, "splice, read")
    }
    .rpc(&[61])
    .long(&["pre-dump-mode"], Argument::Required("MODE"))
    .setters(&["set_pre_dump_mode"])
    .default("splice")
    .verbs(&[PreDump])
    .help("how a pre-dump reads memory: splice, read"),
    Row { from_text: |_, _| Ok(()), ..scalar!(pidfd_store_sk, access::number) }
        .rpc(&[62])
        .setters(&["set_pidfd_store_sk"])
        .verbs(DUMPS)
        .permits(&[Dump], "only a dump after pre-dumps has something to look up in it")
        .help("a socket that keeps pidfds from one pre-dump to the next"),
    local_flag!(allow_uprobes)
        .long(&["allow-uprobes"], Argument::Negatable)
        .verbs(&[Dump, Restore])
        .permits(
            &[Dump, Restore],
            "no mapping of uprobes is carried: a process that has one is refused",
        )
        .help("accept the mapping of uprobes"),
    local_flag!(stream)
        .long(&["stream"], Argument::Negatable)
        .verbs(&[Dump, PreDump, Restore])
        .refused("this version keeps images in a directory only")
        .help("send or take the images as a stream"),
    local_flag!(use_page_server)
        .long(&["page-server"], Argument::Negatable)
        .verbs(DUMPS)
        .refused("this version writes pages into the directory of the images only")
        .help("send pages to a page server"),
    Row {
        name: "ps",
        from_rpc: |message, options| {
            let said = message.ps.as_ref().map(|server| Server {
                address: server.address.as_deref().map(access::from_bytes),
                port: server.port,
                pid: server.pid,
                fd: server.fd,
            });
            if said.is_some() {
                options.ps = said;
                options.use_page_server = Some(true);
            }
            Ok(())
        },
        to_rpc: |options, message| {
            let used = options.ps.as_ref().filter(|_| options.use_page_server());
            message.ps = used.map(|server| proto::CriuPageServerInfo {
                address: server.address.as_ref().map(access::to_bytes),
                port: server.port,
                pid: server.pid,
                fd: server.fd,
            });
        },
        from_text: |given, options| {
            server(options).address = Some(access::name(given)?.to_owned());
            Ok(())
        },
        asks: |options| options.ps.is_some(),
        ..access::EMPTY
    }
    .rpc(&[11])
    .long(&["address"], Argument::Required("ADDR"))
    .setters(&["set_page_server_address_port"])
    .verbs(&[Dump, PreDump, PageServer, LazyPages, Service])
    .honoured(&[Service])
    .permits(&[Dump], WITH_PAGE_SERVER)
    .help("address of the page server; path of the service's socket"),
    Row { name: "ps.port", from_text: port_from_text, ..access::EMPTY }
        .long(&["port"], Argument::Required("PORT"))
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("port of the page server"),
    Row {
        name: "ps.fd",
        from_text: |given, options| {
            server(options).fd = Some(access::number(given)?);
            Ok(())
        },
        ..access::EMPTY
    }
    .long(&["ps-socket"], Argument::Required("FD"))
    .verbs(REMOTE)
    .permits(&[Dump], WITH_PAGE_SERVER)
    .help("socket of the page server"),
    flag!(tls)
        .rpc(&[58])
        .long(&["tls"], Argument::Negatable)
        .setters(&["set_tls"])
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("speak TLS with the page server"),
    flag!(tls_no_cn_verify)
        .rpc(&[59])
        .long(&["tls-no-cn-verify"], Argument::None)
        .setters(&["set_tls_no_cn_verify"])
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("do not verify the name in the page server's certificate"),
    name!(tls_cacert)
        .rpc(&[54])
        .long(&["tls-cacert"], Argument::Required("FILE"))
        .setters(&["set_tls_cacert"])
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("certificate of the authority that is trusted"),
    name!(tls_cacrl)
        .rpc(&[55])
        .long(&["tls-cacrl"], Argument::Required("FILE"))
        .setters(&["set_tls_cacrl"])
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("certificates that are revoked"),
    name!(tls_cert)
        .rpc(&[56])
        .long(&["tls-cert"], Argument::Required("FILE"))
        .setters(&["set_tls_cert"])
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("own certificate"),
    name!(tls_key)
        .rpc(&[57])
        .long(&["tls-key"], Argument::Required("FILE"))
        .setters(&["set_tls_key"])
        .verbs(REMOTE)
        .permits(&[Dump], WITH_PAGE_SERVER)
        .help("own private key"),
];

fn server(options: &mut Options) -> &mut Server {
    options.ps.get_or_insert_default()
}

fn port_from_text(given: Given<'_>, options: &mut Options) -> Result<()> {
    match access::number::<u16>(given)? {
        0 => Err(access::bad("0 is no number of a port")),
        port => {
            server(options).port = Some(i32::from(port));
            Ok(())
        }
    }
}
