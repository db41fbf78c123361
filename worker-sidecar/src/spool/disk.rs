//! The spool's files: written whole or not at all.

use std::{fs, io, path::Path};

use super::UNFINISHED;

/// The number in a file's name.
pub(super) fn number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// It is on the disk under its name when this returns. After an error it may be there too.
pub(super) fn write(dir: &Path, path: &Path, record: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = synced(&unfinished, record).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What is half there takes room; if it cannot go either, the next start removes it.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    fs::File::open(dir)?.sync_all()
}

/// What is not there is removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whether the disk takes anything.
pub(super) fn try_out(dir: &Path, path: &Path) -> io::Result<()> {
    let written = synced(path, b"probe");
    // Also what is half there: while a disk is full, probe follows probe.
    let removed = fs::remove_file(path);
    written.and(removed)?;
    fs::File::open(dir)?.sync_all()
}

fn synced(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut file = fs::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Off the threads that must not wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => Err(io::Error::other(panicked)),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (there, missing) = (dir.path().join("1.tmp"), dir.path().join("missing"));
        try_out(dir.path(), &there).unwrap();
        try_out(&missing, &there).unwrap_err();
        std::os::unix::fs::symlink("/dev/full", &there).unwrap();
        try_out(dir.path(), &there).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
