//! Users by name. The files are read here, because a static binary has no C library's services to
//! ask, and users of system services stand in them.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::Error;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    pub(super) fn find(name: &str) -> Result<Self, Error> {
        let file = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::find_in(&file, name).ok_or_else(|| Error::UnknownUser {
            name: name.to_owned(),
        })
    }

    fn find_in(file: &str, name: &str) -> Option<Self> {
        file.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            Some(Self {
                name: name.to_owned(),
                uid: fields.nth(1)?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        })
    }

    /// All groups, the first one included.
    pub(super) fn groups(&self) -> Vec<u32> {
        let file = fs::read_to_string("/etc/group").unwrap_or_default();
        self.groups_in(&file)
    }

    fn groups_in(&self, file: &str) -> Vec<u32> {
        let mut groups = vec![self.gid];
        for line in file.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [_, _, gid, members] = fields.as_slice() else {
                continue;
            };
            let is_member = members.split(',').any(|member| member == self.name);
            if let (true, Ok(gid)) = (is_member, gid.parse())
                && !groups.contains(&gid)
            {
                groups.push(gid);
            }
        }
        groups
    }

    /// Whether the permissions of a folder let this user make files there.
    pub(super) fn may_write(&self, folder: &Path) -> bool {
        let Ok(found) = fs::metadata(folder) else {
            return false;
        };
        let shift = if found.uid() == self.uid {
            6
        } else if self.groups().contains(&found.gid()) {
            3
        } else {
            0
        };
        (found.mode() >> shift) & 0o3 == 0o3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let file = "root:x:0:0:root:/root:/bin/sh\nlb2:x:5:6::/:\nlb:x:997:996:lb:/:/bin/false\n";
        let user = User::find_in(file, "lb").unwrap();
        assert_eq!((user.uid, user.gid), (997, 996));
        assert_eq!(User::find_in(file, "l"), None);
        assert_eq!(
            user.groups_in("adm:x:4:x,lb\nlbs:x:5:lbx\nlb:x:996:\n"),
            [996, 4]
        );
    }

    #[test]
    fn permissions_are_those_of_owner_group_or_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let owner = fs::metadata(folder.path()).unwrap();
        let user = |uid, gid| User {
            name: "nobody-we-know".to_owned(),
            uid,
            gid,
        };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o730)).unwrap();
        assert!(user(owner.uid(), 1).may_write(folder.path()));
        assert!(user(owner.uid() + 1, owner.gid()).may_write(folder.path()));
        assert!(!user(owner.uid() + 1, owner.gid() + 1).may_write(folder.path()));
        assert!(!user(1, 1).may_write(Path::new("/does/not/exist")));
    }
}
