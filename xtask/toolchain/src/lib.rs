//! Builds the eBPF objects of lb: finds a compiler that has `core` for BPF and the bpf-linker that
//! fits it. `lb-userspace/build.rs` and `cargo xtask setup` share this crate, so there is one
//! opinion about what a usable toolchain is. It depends on nothing but the standard library,
//! because it is compiled before everything else.

mod compiler;
mod environment;
mod error;
mod linker;
mod objects;
mod workspace;

pub use compiler::{Compiler, CoreSource, MINIMUM_RUST, TARGET};
pub use environment::{clean_command, remapped_paths};
pub use error::{Error, Result};
pub use linker::{BPF_LINKER_VERSION, Linker, supports_llvm};
pub use objects::{Objects, Toolchain, build_objects};
pub use workspace::{target_dir, tools_dir, watched_paths, workspace_root};
