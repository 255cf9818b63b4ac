//! A folder in which the files of a package are gathered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one.
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        let tree = Self { root };
        tree.set_mode(&tree.root, 0o755)?;
        Ok(tree)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file that everybody may read.
    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        self.put(name, 0o644, |file| fs::write(file, contents))
    }

    /// Writes a file that everybody may run.
    pub(super) fn write_program(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        self.put(name, 0o755, |file| fs::write(file, contents))
    }

    /// Copies a file that everybody may read.
    pub(super) fn copy(&self, from: &Path, name: &str) -> Result<()> {
        self.put(name, 0o644, |file| fs::copy(from, file).map(drop))
            .with_context(|| format!("{} cannot be packed", from.display()))
    }

    /// Copies a file that everybody may run.
    pub(super) fn copy_program(&self, from: &Path, name: &str) -> Result<()> {
        self.put(name, 0o755, |file| fs::copy(from, file).map(drop))
            .with_context(|| format!("{} cannot be packed", from.display()))
    }

    /// Copies a folder with all that is in it.
    pub(super) fn copy_all(&self, from: &Path, name: &str) -> Result<()> {
        for entry in
            fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))?
        {
            let entry = entry?;
            let inner = format!("{name}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.copy_all(&entry.path(), &inner)?;
            } else {
                self.copy(&entry.path(), &inner)?;
            }
        }
        Ok(())
    }

    /// All files, sorted, by their names in the tree.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    walk(&entry.path(), found)?;
                } else {
                    found.push(entry.path());
                }
            }
            Ok(())
        }
        let mut found = Vec::new();
        walk(&self.root, &mut found)?;
        let names = found
            .iter()
            .map(|path| path.strip_prefix(&self.root).map(Path::to_path_buf));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        names.sort();
        Ok(names)
    }

    fn put(
        &self,
        name: &str,
        mode: u32,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<()> {
        let file = self.root.join(name);
        let folders: Vec<_> = file
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != self.root)
            .collect();
        for folder in folders.iter().rev() {
            if !folder.is_dir() {
                fs::create_dir(folder)?;
            }
            // Whatever the umask of whoever builds.
            self.set_mode(folder, 0o755)?;
        }
        make(&file).with_context(|| format!("{} cannot be written", file.display()))?;
        self.set_mode(&file, mode)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
    }
}
