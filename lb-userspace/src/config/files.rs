//! Files that a config names and the agent needs: whether they are there, while it is time to say
//! so. What is not a file of this machine, such as bytes in a test, is judged without them.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    plain,
    prefix_list::{self, PrefixLists},
    problem::Problem,
};

/// What a file is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Needs {
    /// The certificates in it.
    Certificates,
    /// To be read.
    Content,
    /// To be run.
    Execution,
    /// The prefixes in it.
    Prefixes,
}

/// A file that the config names.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    pub(super) file: PathBuf,
    pub(super) needs: Needs,
    /// What to say, but for the reason.
    pub(super) problem: Problem,
}

/// What is wrong with the files. Lists of prefixes are read on the way.
pub(super) fn problems(needed: Vec<Needed>, lists: &mut PrefixLists) -> Vec<Problem> {
    let mut known: HashMap<(PathBuf, Needs), Option<String>> = HashMap::new();
    let mut wrong = Vec::new();
    for one in &needed {
        if one.needs == Needs::Prefixes && !lists.contains_key(&one.file) {
            // Why it cannot be read is told below.
            if let Ok((list, bad)) = prefix_list::read(&one.file) {
                lists.insert(one.file.clone(), list.into());
                wrong.extend(bad);
            }
        }
    }
    let lacking = needed.into_iter().filter_map(|needed| {
        let Needed {
            file,
            needs,
            mut problem,
        } = needed;
        let lack = known
            .entry((file, needs))
            .or_insert_with_key(|(file, needs)| lack(file, *needs));
        problem.message.push_str(lack.as_deref()?);
        Some(problem)
    });
    wrong.extend(lacking);
    wrong
}

fn lack(file: &Path, needs: Needs) -> Option<String> {
    let found = match fs::metadata(file) {
        Ok(found) => found,
        Err(error) => return Some(format!("cannot be used: {}", plain(&error))),
    };
    if !found.is_file() {
        return Some("is not a file".to_owned());
    }
    match needs {
        Needs::Execution => {
            let is_program = found.permissions().mode() & 0o111 != 0;
            (!is_program).then(|| "is not executable (chmod +x)".to_owned())
        }
        Needs::Prefixes => prefix_list::read(file).err(),
        Needs::Content => File::open(file)
            .err()
            .map(|error| format!("cannot be read: {}", plain(&error))),
        Needs::Certificates => {
            if let Err(error) = File::open(file) {
                return Some(format!("cannot be read: {}", plain(&error)));
            }
            let certificates = CertificateDer::pem_file_iter(file).ok()?;
            let readable = certificates.filter(Result::is_ok).count();
            (readable == 0)
                .then(|| "has no certificate in it (PEM, -----BEGIN CERTIFICATE-----)".to_owned())
        }
    }
}
