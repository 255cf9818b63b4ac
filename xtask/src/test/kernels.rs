//! Tier `kernels`: every program that a config may ask for, on this kernel and on Debian's older
//! ones in an emulator. The programs, the packets and the judgement are those of `lb_tests::guest`.

mod initramfs;
mod machine;
mod matrix;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Tally;
use crate::build::{self, cargo};
use crate::console;
use crate::interrupt;
use crate::root;
use crate::setup::{self, Image};

use initramfs::Initramfs;
use matrix::{Column, Matrix};

/// How long one kernel may take, its boot included: about four times what it takes when nothing
/// else runs.
const TIME: Duration = Duration::from_secs(600);

/// Releases whose lack counts as skipped; older ones are a bonus.
const EXPECTED: [&str; 2] = ["6.1", "6.12"];

/// What the lab's set-up and clean-up call.
const CALLED: [&str; 6] = ["cat", "ethtool", "ip", "rm", "sh", "sleep"];

/// The name of the kernel that this runs on, as an argument.
const HERE: &str = "here";

/// Runs the tier. Arguments choose kernels ("here", "6.1") and programs ("nat", "all",
/// "decap", "agent").
pub(super) fn run(lb: &Path, arguments: &[String]) -> Result<Tally> {
    let images = setup::kernel_images();
    let is_kernel = |word: &str| word == HERE || setup::KERNEL_SERIES.contains(&word);
    let (kernels, programs): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|word| is_kernel(word));
    let is_wanted = |kernel: &str| kernels.is_empty() || kernels.iter().any(|word| word == kernel);
    let mut skipped = 0;
    for series in EXPECTED.into_iter().filter(|series| is_wanted(series)) {
        if !images.iter().any(|image| image.series == series) {
            skipped += 1;
            console::failed(format!(
                "Linux {series} is not tested: this machine's sources of packages did not give it"
            ));
        }
    }
    let guest = build_guest()?;
    let folder = lb_toolchain::target_dir(&lb_toolchain::workspace_root(), None).join("kernels");
    fs::create_dir_all(&folder)?;
    let mut matrix = Matrix::default();
    if is_wanted(HERE) && root::is_root() {
        let mut command = Command::new(&guest);
        command.args(&programs).env("LB_BIN", lb);
        matrix.columns.push(column(HERE, command, &folder));
    }
    let wanted: Vec<_> = images
        .into_iter()
        .filter(|image| is_wanted(image.series))
        .collect();
    matrix
        .columns
        .extend(emulate(&wanted, (&guest, lb), &programs, &folder)?);
    interrupt::check()?;
    println!("{matrix}");
    let file = folder.with_extension("json");
    let text = format!("{}\n", serde_json::to_string_pretty(&matrix.to_json())?);
    fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    println!("figures: {}", file.display());
    let mut tally = matrix.tally();
    tally.skipped += skipped;
    Ok(tally)
}

/// Optimised, because an emulated processor is slow enough.
fn build_guest() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "lb-tests"]);
    build::run(command.args(["--bin", "lb-guest"]))?;
    Ok(build::release_path().with_file_name("lb-guest"))
}

/// Boots all of them at once.
fn emulate(
    images: &[Image],
    binaries: (&Path, &Path),
    programs: &[String],
    folder: &Path,
) -> Result<Vec<Column>> {
    let commands = images.iter().map(|image| {
        let archive = folder.join(format!("{}.cpio", image.series));
        fs::write(&archive, initramfs(binaries, image)?)?;
        let command = machine::emulated(&image.kernel, &archive, programs);
        Ok((image.series, command))
    });
    let commands: Vec<_> = commands.collect::<Result<_>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = commands
            .into_iter()
            .map(|(series, command)| scope.spawn(move || column(series, command, folder)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                let joined = thread.join();
                joined.map_err(|_| anyhow::anyhow!("a thread of the test runner panicked"))
            })
            .collect()
    })
}

/// What a machine boots with: our programs, those that they call, and the module that the kernel
/// needs.
fn initramfs((guest, lb): (&Path, &Path), image: &Image) -> Result<Vec<u8>> {
    let mut archive = Initramfs::new();
    archive.program("/init", guest)?;
    archive.program(machine::LB, lb)?;
    for name in CALLED {
        let program = setup::find_program(name).with_context(|| format!("there is no `{name}`"))?;
        archive.program(&format!("/bin/{name}"), &program)?;
    }
    archive.file(Path::new("/veth.ko"), &image.veth)?;
    Ok(archive.finish())
}

/// Runs everything on one kernel, and says so while it does.
fn column(kernel: &'static str, command: Command, folder: &Path) -> Column {
    let began = Instant::now();
    let mut column = Column::new(kernel);
    let log = folder.join(format!("{kernel}.log"));
    let result = machine::watch(command, &log, TIME, |report| {
        if let Some(line) = column.add(&report) {
            println!("  [{kernel}] {line}");
        }
    });
    if let Err(error) = result {
        column.trouble = Some(format!("{error:#}"));
    } else if !column.is_done {
        column
            .trouble
            .get_or_insert_with(|| "it ended early".into());
    }
    match &column.trouble {
        None => console::done(format!("Linux {}", column.release), began),
        Some(trouble) => console::failed(format!(
            "Linux {kernel}: {trouble}; what it wrote is in {}",
            log.display()
        )),
    }
    column
}
