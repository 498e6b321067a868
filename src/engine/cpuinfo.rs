//! `cpuinfo.img`: `cpuinfo dump` writes it, and so does a dump with `--cpu-cap`; `cpuinfo check` compares
//! it with the processor, and so does a restore with `--cpu-cap`.

use crate::error::{Error, Kind, Result};
use crate::images::codec::{Decoder, Encoder};
use crate::images::dir::ImageDir;
use crate::images::proto::CpuinfoEntry;
use crate::images::sections::SECTIONS;
use crate::images::snapshot::Snapshot;
use crate::log::Log;
use crate::objects::cpu::{self, cpu_cap};
use crate::options::Request;

/// `cpuinfo dump`.
pub fn dump(request: &Request, log: &Log) -> Result<()> {
    let mut file = Encoder::new(SECTIONS.cpuinfo.magic);
    file.entry(&cpu::capture()?);
    ImageDir::copy_of(request.images()?)?.replace(SECTIONS.cpuinfo.name(), &file.finish())?;
    log.info(format!("{} is written", SECTIONS.cpuinfo.name()));
    Ok(())
}

/// `cpuinfo check`. It compares everything, unless `--cpu-cap` names what is to be compared.
pub fn check(request: &Request, log: &Log) -> Result<()> {
    let dir = ImageDir::copy_of(request.images()?)?;
    let bytes = dir.try_read(SECTIONS.cpuinfo.name())?.ok_or_else(missing)?;
    let entry: Option<CpuinfoEntry> =
        Decoder::new(SECTIONS.cpuinfo.name(), &bytes, SECTIONS.cpuinfo.magic)?.entry()?;
    let entry = entry.ok_or_else(|| Error::image(SECTIONS.cpuinfo.name(), "has no entry"))?;
    let caps = match request.options.cpu_cap() & cpu_cap::ALL {
        0 => cpu_cap::ALL,
        caps => caps,
    };
    cpu::check(&entry, caps)?;
    log.info("the processor is as good as the one in the image");
    Ok(())
}

/// What a dump writes, if it is asked to write it.
pub fn wanted(request: &Request) -> Result<Option<CpuinfoEntry>> {
    let wanted = request.options.cpu_cap() & cpu_cap::IMAGE != 0;
    wanted.then(cpu::capture).transpose()
}

/// Compares the processor with the image, if the restore is asked to.
pub fn check_at_restore(request: &Request, snapshot: &Snapshot) -> Result<()> {
    let caps = request.options.cpu_cap();
    if caps & cpu_cap::IMAGE == 0 {
        return Ok(());
    }
    cpu::check(snapshot.cpuinfo.as_ref().ok_or_else(missing)?, caps)
}

fn missing() -> Error {
    Error::new(Kind::BadImages, format!("{} is missing", SECTIONS.cpuinfo.name()))
        .remedy("dump with --cpu-cap, or leave it out here")
}
