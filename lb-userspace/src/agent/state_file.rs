//! What was set at run time, kept over a restart: a small JSON file, replaced as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::control::{HIGHEST_WEIGHT, State};

/// Of the file's layout. One with another number is set aside.
const VERSION: u32 = 1;
/// A larger file is none of ours: it has room for a million backends.
const LARGEST: u64 = 256 << 20;

/// What was set at run time about one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Override {
    /// The weight, and what the config said when it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<Weight>,
    /// The administrative state.
    #[serde(default, skip_serializing_if = "is_ready")]
    pub(super) state: State,
}

/// A weight that was set at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weight {
    /// It.
    pub(super) set: u16,
    /// The config's. As soon as the config says something else, that counts.
    pub(super) instead_of: u16,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_ready(state: &State) -> bool {
    *state == State::Ready
}

impl Override {
    /// Whether nothing is set.
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// By service and backend.
pub(super) type Overrides = BTreeMap<(String, String), Override>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    backends: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    service: String,
    backend: String,
    #[serde(flatten)]
    set: Override,
}

/// Reads the file. One that is not there says nothing; one of no use is set aside and said to be so.
pub(super) fn load(file: &Path) -> Overrides {
    read(file).unwrap_or_else(|reason| {
        let kept = set_aside(file);
        tracing::warn!(
            "the state file {} is damaged ({reason}); {kept}, and weights and states are those of \
             the config",
            file.display()
        );
        Overrides::new()
    })
}

/// Gives a file that is of no use another name, so that the next one to be written does not take
/// its place: it may be whole, and a disk or its rights may be at fault. Says where it is.
pub(super) fn set_aside(file: &Path) -> String {
    let aside = aside(file);
    match fs::rename(file, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it could not be set aside: {error}"),
    }
}

fn read(file: &Path) -> Result<Overrides, String> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    opened
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("larger than {} MiB", LARGEST >> 20));
    }
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Overrides, String> {
    let contents: Contents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if contents.version != VERSION {
        return Err(format!(
            "version {}, and this lb knows version {VERSION}",
            contents.version
        ));
    }
    contents
        .backends
        .into_iter()
        .map(|entry| match entry.set.weight {
            Some(Weight { set, .. }) if set > HIGHEST_WEIGHT => Err(format!(
                "weight {set} of {}/{}",
                entry.service, entry.backend
            )),
            _ => Ok(((entry.service, entry.backend), entry.set)),
        })
        .collect()
}

/// Replaces the file, so that a reader, also one after a power cut, finds the old or the new one.
pub(super) fn save(file: &Path, overrides: &Overrides) -> io::Result<()> {
    let contents = Contents {
        version: VERSION,
        backends: overrides
            .iter()
            .filter(|(_, set)| !set.is_nothing())
            .map(|((service, backend), set)| Entry {
                service: service.clone(),
                backend: backend.clone(),
                set: *set,
            })
            .collect(),
    };
    write_json(file, &contents)
}

/// What stands in a file beside the state file, as JSON; one that is larger than `most` bytes is none
/// of ours.
pub(super) fn read_json<T: DeserializeOwned>(file: &Path, most: u64) -> io::Result<T> {
    if fs::metadata(file)?.len() > most {
        return Err(io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// Writes it, as [`replace`] does.
pub(super) fn write_json<T: Serialize>(file: &Path, value: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    replace(file, &text)
}

/// Replaces a file as a whole; makes its folder if that is missing.
pub(super) fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let new = beside(file, "new");
    let written = write(&new, text).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What is left of it is of no use; the error before is the one to tell.
        let _ = fs::remove_file(&new);
        return written;
    }
    File::open(folder)?.sync_all()
}

fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    opened.write_all(text)?;
    opened.sync_all()
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// A name that is free for a damaged file; the last one is used again, so that they do not pile up.
fn aside(file: &Path) -> PathBuf {
    const MOST: u32 = 10;
    (1..MOST)
        .map(|number| beside(file, &format!("damaged-{number}")))
        .find(|name| !name.exists())
        .unwrap_or_else(|| beside(file, &format!("damaged-{MOST}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides() -> Overrides {
        let weight = Some(Weight {
            set: 3,
            instead_of: 1,
        });
        Overrides::from([
            (
                ("web".to_owned(), "web1".to_owned()),
                Override {
                    weight,
                    state: State::Drain,
                },
            ),
            (
                ("web".to_owned(), "web2".to_owned()),
                Override {
                    weight: None,
                    state: State::Maint,
                },
            ),
        ])
    }

    #[test]
    fn what_is_saved_is_loaded_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deeper/state.json");
        assert_eq!(load(&file), Overrides::new(), "there is none yet");
        let mut set = overrides();
        let kept = set.clone();
        set.insert(("web".into(), "web3".into()), Override::default());
        save(&file, &set).unwrap();
        assert_eq!(load(&file), kept);
        save(&file, &Overrides::new()).unwrap();
        assert_eq!(load(&file), Overrides::new());
        let left = fs::read_dir(folder.path().join("deeper")).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let good = {
            save(&file, &overrides()).unwrap();
            fs::read(&file).unwrap()
        };
        let many = [
            Vec::new(),
            good[..good.len() / 2].to_vec(),
            b"\0\0\0\0".to_vec(),
            b"{\"version\":2,\"backends\":[]}".to_vec(),
            b"{\"version\":1,\"backends\":[{\"service\":\"a\",\"backend\":\"b\",\"weight\":{\"set\":999,\"instead_of\":1}}]}".to_vec(),
            b"[".repeat(100_000),
        ];
        for (number, bytes) in (1..).zip(many) {
            fs::write(&file, &bytes).unwrap();
            assert_eq!(load(&file), Overrides::new());
            assert!(!file.exists());
            let aside = folder.path().join(format!("state.json.damaged-{number}"));
            assert_eq!(fs::read(aside).unwrap(), bytes);
        }
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        fs::create_dir(&file).unwrap();
        assert_eq!(load(&file), Overrides::new());
        assert!(folder.path().join("state.json.damaged-1").is_dir());
        save(&file, &overrides()).unwrap();
        assert_eq!(load(&file), overrides());
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        save(&file, &overrides()).unwrap();
        // A folder in the way of the new file.
        fs::create_dir(beside(&file, "new")).unwrap();
        assert!(save(&file, &Overrides::new()).is_err());
        assert_eq!(load(&file), overrides());
    }
}
