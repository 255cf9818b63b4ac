//! Builds the eBPF objects that rows and benchmarks load, from the same sources and with the same
//! code as the agent's.

use std::{env, path::Path};

fn main() {
    for path in lb_toolchain::watched_paths(&lb_toolchain::workspace_root()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let Some(out_dir) = env::var_os("OUT_DIR") else {
        println!("cargo::error=this program is a build script and is started by cargo");
        return;
    };
    if let Err(error) = lb_toolchain::build_objects(Path::new(&out_dir)) {
        println!("cargo::error={error}");
    }
}
