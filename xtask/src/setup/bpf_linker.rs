//! bpf-linker, in the project's own folder of tools.

use std::process::{Command, Stdio};

use anyhow::Result;
use lb_toolchain::{
    BPF_LINKER_VERSION, Compiler, Linker, Toolchain, clean_command, tools_dir, workspace_root,
};

use super::packages::llvm_prefix;
use crate::console;

/// Whether it is installed, fits a compiler, and runs.
pub(super) fn is_there() -> bool {
    state().is_ok()
}

/// What is there, or what is missing.
pub(super) fn state() -> std::result::Result<String, String> {
    let workspace = workspace_root();
    let Some(linker) = Linker::find(&workspace) else {
        return Err(format!(
            "release {BPF_LINKER_VERSION} is not installed in this project"
        ));
    };
    Toolchain::find(&workspace).map_err(|error| error.to_string())?;
    // It is there but useless when the LLVM library it was linked with has been removed.
    let runs = Command::new(&linker.path)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !runs {
        return Err(format!("{} does not start", linker.path.display()));
    }
    let llvm = linker
        .llvm
        .map_or_else(String::new, |llvm| format!(" for LLVM {llvm}"));
    Ok(format!("{BPF_LINKER_VERSION}{llvm}"))
}

/// Builds it for this compiler's LLVM.
pub(super) fn install(compiler: &Compiler) -> Result<()> {
    let mut command = clean_command("cargo");
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER_VERSION,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{}", compiler.llvm),
        ])
        .arg("--root")
        .arg(tools_dir(&workspace_root()))
        .env("LLVM_PREFIX", llvm_prefix(compiler.llvm));
    let title = format!("bpf-linker {BPF_LINKER_VERSION} for LLVM {}", compiler.llvm);
    console::run_long(&title, &mut command)
}
