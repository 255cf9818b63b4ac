//! bpf-linker, which turns LLVM bitcode into the eBPF object: is it there, and for which LLVM?

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::tools_dir;

/// The release of bpf-linker that the project builds with.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// The LLVM releases that this bpf-linker can be built for.
const SUPPORTED_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// The first LLVM whose BPF backend can be told that unaligned loads are fine.
const FIRST_LLVM_WITH_UNALIGNED_LOADS: u32 = 22;

/// Whether bpf-linker can be built for this LLVM at all.
#[must_use]
pub fn supports_llvm(major: u32) -> bool {
    SUPPORTED_LLVM.contains(&major)
}

/// The project's installed bpf-linker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linker {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Major version of the LLVM it was built for; unknown when cargo did not install it.
    pub llvm: Option<u32>,
}

impl Linker {
    /// The bpf-linker in the project's folder of tools, if the right release is there.
    #[must_use]
    pub fn find(workspace: &Path) -> Option<Self> {
        let tools = tools_dir(workspace);
        let path = tools.join("bin/bpf-linker");
        if !path.is_file() {
            return None;
        }
        match fs::read_to_string(tools.join(".crates2.json")) {
            Ok(record) => installed_llvm(&record).map(|llvm| Self {
                path,
                llvm: Some(llvm),
            }),
            // Put there by hand, for example from the project's release page.
            Err(_) => Some(Self { path, llvm: None }),
        }
    }

    /// Whether bitcode of a compiler with this LLVM can be linked: bitcode is only sure to be read
    /// by the release that wrote it.
    #[must_use]
    pub fn fits(&self, compiler_llvm: u32) -> bool {
        self.llvm.is_none_or(|llvm| llvm == compiler_llvm)
    }

    /// The BPF features to generate code for. Headers in a packet have no alignment; without
    /// `allows-misaligned-mem-access` each field would be put together byte by byte.
    pub(crate) fn cpu_features(compiler_llvm: u32) -> &'static str {
        if compiler_llvm >= FIRST_LLVM_WITH_UNALIGNED_LOADS {
            "+alu32,+allows-misaligned-mem-access"
        } else {
            "+alu32"
        }
    }
}

/// The `llvm-NN` feature in cargo's own record of what it installed.
fn installed_llvm(record: &str) -> Option<u32> {
    let (_, entry) = record.split_once(&format!("\"bpf-linker {BPF_LINKER_VERSION} "))?;
    let (_, features) = entry.split_once("\"features\":[")?;
    let (features, _) = features.split_once(']')?;
    features.split(',').find_map(|feature| {
        feature
            .trim()
            .trim_matches('"')
            .strip_prefix("llvm-")?
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::{Linker, installed_llvm};

    const RECORD: &str = r#"{"installs":{"cargo-x 1.0.0 (r)":{"features":["llvm-9"]},
        "bpf-linker 0.13.0 (registry)":{"version_req":"=0.13.0","bins":["bpf-linker"],
        "features":["llvm-22"],"all_features":false}}}"#;

    #[test]
    fn the_llvm_is_read_from_cargos_record() {
        assert_eq!(installed_llvm(RECORD), Some(22));
        assert_eq!(installed_llvm(&RECORD.replace("0.13.0", "0.12.0")), None);
        assert_eq!(installed_llvm("{}"), None);
    }

    #[test]
    fn a_linker_fits_its_own_llvm_only() {
        let linker = Linker {
            path: "bpf-linker".into(),
            llvm: Some(22),
        };
        assert!(linker.fits(22));
        assert!(!linker.fits(23));
    }
}
