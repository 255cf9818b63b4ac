//! Builds the eBPF objects and puts them where the library includes them from: `lb-steer.o`,
//! `lb-decap.o`, `lb-intercept.o` and `lb-lab.o` in `OUT_DIR`.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    for path in lb_toolchain::watched_paths(&lb_toolchain::workspace_root()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let Some(out_dir) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        println!("cargo::error=this program is a build script and is started by cargo");
        return ExitCode::FAILURE;
    };
    match lb_toolchain::build_objects(&out_dir) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}
