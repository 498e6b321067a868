use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use super::*;

/// Sends requests to a worker in a thread; the test process is its own peer.
fn exchange(requests: &[CriuReq]) -> (Vec<CriuResp>, i32) {
    let (ours, theirs) = pair();
    for request in requests {
        ours.send(request).unwrap();
    }
    let worker = std::thread::spawn(move || serve(&theirs, Rights::Worker).unwrap_or(255));
    let mut answers = Vec::new();
    for _ in requests {
        match ours.receive() {
            Ok(Some(answer)) => answers.push(answer),
            _ => break,
        }
    }
    drop(ours);
    (answers, worker.join().unwrap())
}

fn pair() -> (Channel, Channel) {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    (Channel::new(ours), Channel::new(theirs))
}

fn request(kind: CriuReqType) -> CriuReq {
    CriuReq { r#type: kind as i32, ..CriuReq::default() }
}

fn no_directory() -> CriuOpts {
    CriuOpts { images_dir_fd: -1, ..CriuOpts::default() }
}

#[test]
fn versions_and_features_are_told_on_one_connection() {
    let version = CriuReq { keep_open: Some(true), ..request(CriuReqType::Version) };
    let asked = CriuFeatures { pidfd_store: Some(true), ..CriuFeatures::default() };
    let features = CriuReq { features: Some(asked), ..request(CriuReqType::FeatureCheck) };
    let (answers, status) = exchange(&[version, features]);
    assert_eq!(status, 0);
    let version = answers[0].version.clone().unwrap();
    assert_eq!((version.major_number, version.minor_number), (4, 2));
    assert_eq!(answers[1].r#type(), CriuReqType::FeatureCheck);
    let features = answers[1].features.unwrap();
    assert_eq!(features.pidfd_store, Some(true));
    assert_eq!((features.mem_track, features.lazy_pages), (Some(false), Some(false)));
}

#[test]
fn what_is_no_request_is_answered_with_an_empty_type() {
    for kind in [CriuReqType::Empty as i32, CriuReqType::Notify as i32, 99] {
        let (answers, status) = exchange(&[CriuReq { r#type: kind, ..CriuReq::default() }]);
        assert_eq!(status, 1);
        assert_eq!(answers[0].r#type(), CriuReqType::Empty);
        assert!(!answers[0].success);
    }
}

#[test]
fn bytes_that_are_no_message_are_answered() {
    let (ours, theirs) = pair();
    send(ours.as_fd().as_raw_fd(), b"\xff\xff\xff", MsgFlags::empty()).unwrap();
    assert!(serve(&theirs, Rights::Worker).is_err());
    let answer: CriuResp = ours.receive().unwrap().unwrap();
    assert!(!answer.success);
    assert!(answer.cr_errmsg.is_some());
}

#[test]
fn a_closed_connection_ends_the_worker() {
    let (ours, theirs) = pair();
    drop(ours);
    assert_eq!(serve(&theirs, Rights::Worker).unwrap(), 0);
}

#[test]
fn verbs_without_a_directory_are_bad_requests_and_say_what_is_missing() {
    for kind in [CriuReqType::Dump, CriuReqType::Restore, CriuReqType::CpuinfoCheck] {
        let message = CriuReq { opts: Some(no_directory()), ..request(kind) };
        let (answers, status) = exchange(&[message]);
        assert_eq!(status, i32::from(kind != CriuReqType::CpuinfoCheck));
        assert_eq!(answers[0].r#type(), kind);
        assert_eq!(answers[0].cr_errno, Some(libc::EBADRQC));
        assert!(answers[0].cr_errmsg().contains("images_dir_fd"), "{}", answers[0].cr_errmsg());
    }
}

#[test]
fn verbs_of_later_versions_are_refused_by_name() {
    for (kind, name) in [
        (CriuReqType::PreDump, "pre-dump"),
        (CriuReqType::SinglePreDump, "pre-dump"),
        (CriuReqType::PageServer, "page-server"),
    ] {
        let (answers, status) = exchange(&[request(kind)]);
        assert_eq!((status, answers[0].r#type()), (1, kind));
        assert_eq!(answers[0].cr_errno, Some(libc::ENOSYS));
        assert!(answers[0].cr_errmsg().starts_with(name), "{}", answers[0].cr_errmsg());
    }
}

#[test]
fn a_failed_dump_and_a_failed_restore_have_their_parts() {
    let of = |kind| CriuReq { opts: Some(no_directory()), ..request(kind) };
    let (answers, _) = exchange(&[of(CriuReqType::Dump)]);
    assert_eq!(answers[0].dump.unwrap().restored, Some(false));
    let (answers, _) = exchange(&[of(CriuReqType::Restore)]);
    assert_eq!(answers[0].restore.unwrap().pid, -1);
}

#[test]
fn a_dump_cannot_keep_the_connection() {
    let message = CriuReq { keep_open: Some(true), ..request(CriuReqType::Dump) };
    let (answers, status) = exchange(&[message]);
    assert_eq!(status, 1);
    assert!(answers[0].cr_errmsg().contains("keep_open"));
}

#[test]
fn a_log_file_elsewhere_is_a_bad_option() {
    let opts = CriuOpts { log_file: Some("../x.log".into()), ..no_directory() };
    let message = CriuReq { opts: Some(opts), ..request(CriuReqType::Restore) };
    let (answers, _) = exchange(&[message]);
    assert_eq!(answers[0].cr_errno, Some(libc::EBADRQC));
    assert!(answers[0].cr_errmsg().contains("../x.log"));
}

#[test]
fn a_configuration_file_that_is_missing_says_nothing() {
    for name in ["/nonexistent.conf", "/dev/null/criu.conf", ""] {
        let opts = CriuOpts { config_file: Some(name.into()), ..no_directory() };
        let message = CriuReq { opts: Some(opts), ..request(CriuReqType::Check) };
        let (answers, _) = exchange(&[message]);
        assert!(!answers[0].cr_errmsg().contains("configuration"), "{name}: {answers:?}");
    }
    let opts = CriuOpts { config_file: Some("/".into()), ..no_directory() };
    let message = CriuReq { opts: Some(opts), ..request(CriuReqType::Restore) };
    let (answers, _) = exchange(&[message]);
    assert_eq!(answers[0].cr_errno, Some(libc::EBADRQC));
    assert!(answers[0].cr_errmsg().contains("configuration file /: "), "{answers:?}");
}

#[test]
fn a_pid_that_is_no_child_cannot_be_waited_for() {
    let message = CriuReq { pid: Some(1), ..request(CriuReqType::WaitPid) };
    let (answers, _) = exchange(&[message]);
    assert_eq!(answers[0].cr_errno, Some(libc::ECHILD));
}

#[test]
fn a_descriptor_travels_with_its_message() {
    let (ours, theirs) = pair();
    let fd = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    theirs.send_with_fd(&request(CriuReqType::Notify), fd.as_fd()).unwrap();
    let message: CriuReq = ours.receive().unwrap().unwrap();
    assert_eq!(message.r#type(), CriuReqType::Notify);
}
