//! A Secret as kubelet mounts it.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

/// A directory whose files change all at once: they are links through one link, `..data`,
/// which is replaced.
#[derive(Debug)]
pub struct Mount {
    dir: TempDir,
    versions: AtomicU32,
}

impl Mount {
    /// One with these files.
    pub fn new(files: &[(&str, &str)]) -> io::Result<Self> {
        let mount = Self {
            dir: TempDir::with_prefix("mount-")?,
            versions: AtomicU32::new(0),
        };
        mount.replace(files)?;
        for (name, _) in files {
            symlink(Path::new("..data").join(name), mount.path().join(name))?;
        }
        Ok(mount)
    }

    /// Other contents for the same files.
    pub fn replace(&self, files: &[(&str, &str)]) -> io::Result<()> {
        let number = self.versions.fetch_add(1, Ordering::Relaxed);
        let name = format!("..version_{number}");
        let (version, data) = (self.path().join(&name), self.path().join("..data"));
        fs::create_dir(&version)?;
        for (file, text) in files {
            fs::write(version.join(file), text)?;
        }
        let before = fs::read_link(&data).ok();
        let next = self.path().join("..data_tmp");
        symlink(&name, &next)?;
        fs::rename(&next, &data)?;
        match before {
            Some(before) => fs::remove_dir_all(self.path().join(before)),
            None => Ok(()),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_in_place() {
        let mount = Mount::new(&[("key", "a"), ("secret", "b")]).unwrap();
        let read = |name| fs::read_to_string(mount.file(name)).unwrap();
        assert_eq!((read("key"), read("secret")), ("a".into(), "b".into()));
        mount.replace(&[("key", "c"), ("secret", "d")]).unwrap();
        assert_eq!((read("key"), read("secret")), ("c".into(), "d".into()));
    }
}
