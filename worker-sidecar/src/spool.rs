//! Results that Conductor has not taken yet, on disk: they outlive the sidecar's process.
//!
//! One file per result. It is written under another name, synced, renamed, and the folder
//! synced, before the result's slot is given to another task; only results whose first
//! attempt failed or hangs come here, so the syncs cost nothing while Conductor answers. The
//! folder is an emptyDir: it lives as long as the pod, through ends of the process and of the
//! node's power.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use self::disk::{blocking, number, remove, try_out, write};
use crate::{lease::Lease, record, result::Report};

mod disk;

const RESULT: &str = "result";
const UNFINISHED: &str = "tmp";
/// What could not be read is kept under this ending, for somebody to look at.
const BROKEN: &str = "broken";

/// More files than this are not useful: each is a task whose lease must be kept.
const MOST_FILES: u64 = 10_000;

/// Disks are not faster when asked by many; the pool of blocking threads is not for one use.
const WRITERS: usize = 2;

/// How often a disk that failed is tried again.
const PROBE: Duration = Duration::from_secs(5);

/// A folder of results.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    limit: u64,
    /// What is on the disk or about to be.
    used: Mutex<Used>,
    on_disk: AtomicU64,
    next: AtomicU64,
    writers: Semaphore,
    trouble: watch::Sender<Option<Trouble>>,
    /// Files that could not be removed when they should have been, and their sizes.
    unremoved: Mutex<Vec<(PathBuf, u64)>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    files: u64,
    bytes: u64,
}

/// Why nothing more can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The spool has reached its size.
    Full,
    /// The disk refuses.
    Broken,
}

impl Trouble {
    /// A bounded word for metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Broken => "broken",
        }
    }
}

/// A result that was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would exceed the spool's size.
    #[error("the spool has reached its {0} bytes")]
    Full(u64),
    /// It alone would: room would not help it.
    #[error("its {bytes} bytes are more than the spool's {limit}")]
    TooLarge {
        /// How large it is.
        bytes: u64,
        /// The spool's size.
        limit: u64,
    },
    /// The disk.
    #[error("{path}: {error}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file that is no result any more.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: record::Unreadable,
    },
}

/// What has to be known of a result while it lies on disk; the result itself may be large.
#[derive(Debug, Clone)]
pub struct About {
    /// The task's type.
    pub task_type: String,
    /// Who did the task.
    pub worker_id: String,
    /// Its lease, to be kept until the result is taken.
    pub lease: Lease,
}

/// A result in the spool.
#[derive(Debug)]
pub struct Kept {
    spool: Arc<Spool>,
    /// Boxed: every task's future has room for one of these.
    about: Box<About>,
    path: PathBuf,
    bytes: u64,
    is_written: bool,
    /// Its file could not be removed, and takes its room until it is.
    stays: bool,
}

/// What a process before this one left.
#[derive(Debug, Default)]
pub struct Left {
    /// Results to be delivered, the oldest first.
    pub kept: Vec<Kept>,
    /// Files that are no results any more; they were renamed.
    pub broken: Vec<PathBuf>,
    /// What the disk refused. The spool takes no results then until its disk works.
    pub refused: Vec<Error>,
}

impl Spool {
    /// Opens the folder, makes it if need be, and finds what was left there. `limit`: the most
    /// bytes to keep. A disk that is full or broken is no error as long as the folder can be
    /// read: what lies there can be delivered, and only that makes room.
    pub fn open(dir: &Path, limit: u64) -> Result<(Arc<Self>, Left), Error> {
        fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
        let spool = Arc::new(Self {
            dir: dir.to_owned(),
            limit,
            used: Mutex::default(),
            on_disk: AtomicU64::new(0),
            next: AtomicU64::new(0),
            writers: Semaphore::new(WRITERS),
            trouble: watch::Sender::new(None),
            unremoved: Mutex::default(),
        });
        let mut names = fs::read_dir(dir)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|e| at(dir, e))?;
        names.sort_by_key(fs::DirEntry::file_name);
        let paths: Vec<PathBuf> = names.iter().map(fs::DirEntry::path).collect();
        // Of all files: what could not be read keeps its name.
        let highest = paths.iter().filter_map(|path| number(path)).max();
        let next = highest.unwrap_or(0).saturating_add(1);
        spool.next.store(next, Ordering::Relaxed);
        let mut left = Left::default();
        for path in paths {
            if let Err(error) = spool.take_stock(path, &mut left) {
                left.refused.push(error);
            }
        }
        if let Err(error) = spool.probe() {
            left.refused.push(at(dir, error));
        }
        if !left.refused.is_empty() {
            spool.turn(|_| Some(Trouble::Broken));
        }
        Ok((spool, left))
    }

    fn take_stock(self: &Arc<Self>, path: PathBuf, left: &mut Left) -> Result<(), Error> {
        match path.extension().and_then(|e| e.to_str()) {
            // Its rename did not happen: the result was never promised to be here.
            Some(UNFINISHED) => fs::remove_file(&path).map_err(|e| at(&path, e)),
            Some(RESULT) => match read(&path) {
                Ok((report, bytes)) => {
                    let about = About::of(&report);
                    let kept = self.count(&mut self.lock(), about, path, bytes);
                    left.kept.push(kept.written());
                    Ok(())
                }
                Err(Error::Unreadable { .. }) => {
                    let aside = path.with_extension(BROKEN);
                    fs::rename(&path, &aside).map_err(|e| at(&path, e))?;
                    left.broken.push(aside);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            _ => Ok(()),
        }
    }

    /// Keeps a result; it is on the disk when this returns.
    pub async fn keep(self: &Arc<Self>, report: &Report) -> Result<Kept, Error> {
        let record = record::write(report);
        let bytes = record.len() as u64;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self
            .dir
            .join(format!("{number:020}"))
            .with_extension(RESULT);
        let kept = self.reserve(About::of(report), path, bytes)?;
        self.put(kept, record, self.dir.clone()).await
    }

    async fn put(&self, kept: Kept, record: Vec<u8>, dir: PathBuf) -> Result<Kept, Error> {
        // An error would mean a closed semaphore; this one never is.
        let _writer = self.writers.acquire().await;
        let path = kept.path.clone();
        let written = blocking(move || write(&dir, &path, &record)).await;
        match written {
            Ok(()) => {
                self.is_sound();
                Ok(kept.written())
            }
            Err(error) => {
                self.turn(|_| Some(Trouble::Broken));
                let error = at(&kept.path, error);
                // It may have its name already. The result will be delivered from memory, and
                // must not come again after a restart.
                kept.remove().await;
                Err(error)
            }
        }
    }

    /// Why nothing more can be kept, if so.
    pub fn trouble(&self) -> Option<Trouble> {
        *self.trouble.borrow()
    }

    /// Ends when results can be kept: at once, as a rule. Room comes with what is delivered;
    /// that a broken disk works again is found out by [`Spool::tend`].
    pub async fn takes_results(&self) {
        // An error would mean a dropped sender, and this one is here.
        let _ = self.trouble.subscribe().wait_for(Option::is_none).await;
    }

    /// Tries a disk that is broken from time to time, and removes what could not be removed
    /// when it should have been.
    pub async fn tend(&self) -> Infallible {
        let mut trouble = self.trouble.subscribe();
        loop {
            let is_broken = self.trouble() == Some(Trouble::Broken);
            if !is_broken && self.unremoved() == 0 {
                let _ = trouble.changed().await;
                continue;
            }
            tokio::time::sleep(PROBE).await;
            self.tidy().await;
            if self.trouble() != Some(Trouble::Broken) {
                continue;
            }
            let (dir, name) = (self.dir.clone(), self.probe_name());
            if blocking(move || try_out(&dir, &name)).await.is_ok() {
                self.is_sound();
            }
        }
    }

    async fn tidy(&self) {
        let files = self.lock_unremoved().clone();
        let gone = move || Ok(files.iter().map(|(p, _)| remove(p).is_ok()).collect());
        let gone: Vec<bool> = blocking(gone).await.unwrap_or_default();
        let mut gone = gone.into_iter();
        // In the same order; what came meanwhile is behind.
        self.lock_unremoved().retain(|(path, bytes)| {
            let is_gone = gone.next().unwrap_or(false);
            if is_gone {
                tracing::info!(path = %path.display(), "a file is removed from the spool at last");
                self.free(*bytes);
            }
            !is_gone
        });
    }

    /// How many files are not needed any more and could not be removed: after a restart they
    /// would be taken for results.
    pub fn unremoved(&self) -> usize {
        self.lock_unremoved().len()
    }

    /// How many results are on the disk.
    pub fn results(&self) -> u64 {
        self.on_disk.load(Ordering::Relaxed)
    }

    /// How much of its size is taken, in bytes; by what is about to be written too.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn probe_name(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir
            .join(format!("{number:020}"))
            .with_extension(UNFINISHED)
    }

    fn probe(&self) -> io::Result<()> {
        try_out(&self.dir, &self.probe_name())
    }

    fn count(self: &Arc<Self>, used: &mut Used, about: About, path: PathBuf, bytes: u64) -> Kept {
        used.files += 1;
        used.bytes += bytes;
        Kept {
            spool: self.clone(),
            about: Box::new(about),
            path,
            bytes,
            is_written: false,
            stays: false,
        }
    }

    fn reserve(self: &Arc<Self>, about: About, path: PathBuf, bytes: u64) -> Result<Kept, Error> {
        let limit = self.limit;
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let mut used = self.lock();
        if used.files >= MOST_FILES || used.bytes + bytes > limit {
            // Said under the lock: what takes the room will go, and then unsay it.
            self.turn(|trouble| trouble.or(Some(Trouble::Full)));
            return Err(Error::Full(limit));
        }
        Ok(self.count(&mut used, about, path, bytes))
    }

    fn free(&self, bytes: u64) {
        let mut used = self.lock();
        used.files = used.files.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(bytes);
        if used.bytes <= self.limit / 10 * 9 && used.files < MOST_FILES / 10 * 9 {
            self.turn(|trouble| trouble.filter(|t| *t != Trouble::Full));
        }
    }

    /// The disk did what it was asked; that makes no room.
    fn is_sound(&self) {
        self.turn(|trouble| trouble.filter(|t| *t != Trouble::Broken));
    }

    fn turn(&self, to: impl FnOnce(Option<Trouble>) -> Option<Trouble>) {
        let mut now = None;
        let changed = self.trouble.send_if_modified(|trouble| {
            now = to(*trouble);
            std::mem::replace(trouble, now) != now
        });
        match now {
            _ if !changed => {}
            Some(trouble) => tracing::error!(
                trouble = trouble.as_str(),
                "the spool takes no results; no more tasks are taken"
            ),
            None => tracing::info!("the spool takes results again"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_unremoved(&self) -> MutexGuard<'_, Vec<(PathBuf, u64)>> {
        let unremoved = self.unremoved.lock();
        unremoved.unwrap_or_else(PoisonError::into_inner)
    }
}

impl About {
    fn of(report: &Report) -> Self {
        Self {
            task_type: report.task_type.clone(),
            worker_id: report.update.worker_id.clone(),
            lease: report.lease(),
        }
    }
}

impl Kept {
    fn written(mut self) -> Self {
        self.is_written = true;
        self.spool.on_disk.fetch_add(1, Ordering::Relaxed);
        self
    }

    /// Whose it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The ids of its task and workflow, for log lines.
    pub fn ids(&self) -> (&str, &str) {
        let lease = &self.about.lease;
        (&lease.task_id, &lease.workflow_id)
    }

    /// Reads it back.
    pub async fn load(&self) -> Result<Report, Error> {
        let path = self.path.clone();
        let loaded = blocking(move || Ok(read(&path)))
            .await
            .map_err(|e| at(&self.path, e))
            .and_then(|loaded| loaded);
        if let Err(Error::Disk { .. }) = loaded {
            self.spool.turn(|_| Some(Trouble::Broken));
        }
        loaded.map(|(report, _)| report)
    }

    /// It need not be kept any more.
    pub async fn remove(mut self) {
        let path = self.path.clone();
        if let Err(error) = blocking(move || remove(&path)).await {
            let (task, workflow) = self.ids();
            tracing::error!(
                task, workflow, %error, path = %self.path.display(),
                "a result that is not needed any more is still in the spool; a restart before it is removed would send it again"
            );
            self.stays = true;
            let spool = &self.spool;
            spool.lock_unremoved().push((self.path.clone(), self.bytes));
            spool.turn(|_| Some(Trouble::Broken));
        }
    }
}

impl Drop for Kept {
    /// Its room is free again; the file stays unless it was removed.
    fn drop(&mut self) {
        if self.is_written {
            self.spool.on_disk.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.stays {
            self.spool.free(self.bytes);
        }
    }
}

fn read(path: &Path) -> Result<(Report, u64), Error> {
    let bytes = fs::read(path).map_err(|e| at(path, e))?;
    let report = record::read(&bytes).map_err(|error| Error::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    Ok((report, bytes.len() as u64))
}

fn at(path: &Path, error: io::Error) -> Error {
    Error::Disk {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::record::tests::report;

    async fn mended(spool: &Spool) {
        tokio::select! {
            () = spool.takes_results() => {}
            never = spool.tend() => match never {},
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_restart_and_not_after_its_removal() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, left) = Spool::open(dir.path(), 1 << 20).unwrap();
        assert!(left.kept.is_empty());
        let first = spool.keep(&report("a")).await.unwrap();
        let second = spool.keep(&report("b")).await.unwrap();
        assert_eq!(spool.results(), 2);
        drop((first, second, spool)); // as a killed process would

        let (spool, left) = Spool::open(dir.path(), 1 << 20).unwrap();
        let mut ids = Vec::new();
        for kept in left.kept {
            ids.push(kept.load().await.unwrap().update.task_id);
            kept.remove().await;
        }
        assert_eq!(ids, ["a", "b"], "the oldest first");
        assert_eq!((spool.results(), spool.bytes()), (0, 0));
        let third = spool.keep(&report("c")).await.unwrap();
        assert_eq!(third.load().await.unwrap().update.task_id, "c");
        drop((third, spool));
        assert_eq!(Spool::open(dir.path(), 1 << 20).unwrap().1.kept.len(), 1);
    }

    #[tokio::test]
    async fn a_broken_file_is_set_aside_and_a_half_written_one_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1.result"), "not a result").unwrap();
        fs::write(dir.path().join("2.tmp"), "half").unwrap();
        fs::write(dir.path().join("notes"), "somebody else's").unwrap();
        let (_spool, left) = Spool::open(dir.path(), 1 << 20).unwrap();
        assert!(left.kept.is_empty());
        assert_eq!(left.broken, [dir.path().join("1.broken")]);
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["1.broken", "notes"]);
    }

    #[tokio::test]
    async fn a_full_spool_says_so_until_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let size = record::write(&report("a")).len() as u64;
        let (spool, _) = Spool::open(dir.path(), 2 * size).unwrap();
        let first = spool.keep(&report("a")).await.unwrap();
        let second = spool.keep(&report("b")).await.unwrap();
        assert!(matches!(
            spool.keep(&report("c")).await,
            Err(Error::Full(_))
        ));
        assert_eq!(spool.trouble(), Some(Trouble::Full));
        first.remove().await;
        tokio::time::timeout(Duration::from_secs(5), spool.takes_results())
            .await
            .unwrap();
        spool.keep(&report("c")).await.unwrap();
        drop(second);
    }

    /// No room would ever help it, and nothing that goes would unsay the trouble.
    #[tokio::test]
    async fn a_result_larger_than_the_spool_is_not_the_spools_trouble() {
        let dir = tempfile::tempdir().unwrap();
        let size = record::write(&report("a")).len() as u64;
        let (spool, _) = Spool::open(dir.path(), size - 1).unwrap();
        let error = spool.keep(&report("a")).await.unwrap_err();
        let says = format!("its {size} bytes are more than the spool's {}", size - 1);
        assert_eq!(error.to_string(), says);
        assert_eq!((spool.trouble(), spool.bytes()), (None, 0));
    }

    #[tokio::test]
    async fn what_is_written_while_the_spool_is_full_does_not_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let size = record::write(&report("a")).len() as u64;
        let (spool, _) = Spool::open(dir.path(), size).unwrap();
        let about = About::of(&report("a"));
        let under_way = spool
            .reserve(about, dir.path().join("1.result"), size)
            .unwrap();
        spool.keep(&report("b")).await.unwrap_err();
        spool.is_sound();
        assert_eq!(spool.trouble(), Some(Trouble::Full));
        drop(under_way);
        assert_eq!(spool.trouble(), None);
    }

    /// Whoever finds no room says so before the room is given back: that unsays it.
    #[test]
    fn full_is_not_said_after_there_is_room() {
        const ROUNDS: usize = 2_000;
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), 10).unwrap();
        let about = About::of(&report("a"));
        let reserve = || spool.reserve(about.clone(), PathBuf::new(), 10);
        let (begin, end) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for round in 0..ROUNDS {
                    let kept = reserve();
                    begin.wait();
                    for _ in 0..round {
                        std::hint::spin_loop();
                    }
                    drop(kept);
                    end.wait();
                }
            });
            let mut late = 0;
            for _ in 0..ROUNDS {
                begin.wait();
                let kept = loop {
                    if let Ok(kept) = reserve() {
                        break kept;
                    }
                };
                late += usize::from(spool.trouble().is_some());
                drop(kept);
                end.wait();
            }
            assert_eq!(late, 0);
        });
    }

    #[tokio::test]
    async fn a_broken_disk_says_so_until_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        let (spool, _) = Spool::open(&folder, 1 << 20).unwrap();
        fs::remove_dir(&folder).unwrap();
        assert!(matches!(
            spool.keep(&report("a")).await,
            Err(Error::Disk { .. })
        ));
        assert_eq!(
            (spool.trouble(), spool.results(), spool.bytes()),
            (Some(Trouble::Broken), 0, 0)
        );
        fs::create_dir(&folder).unwrap();
        mended(&spool).await;
        spool.keep(&report("a")).await.unwrap();
    }

    /// A directory where a file should be stands for a file that the disk refuses, to root too.
    #[tokio::test(start_paused = true)]
    async fn files_that_the_disk_refuses_do_not_keep_the_others_from_being_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name| dir.path().join(name);
        let occupied = |name| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "").unwrap();
        };
        fs::write(at("1.result"), record::write(&report("a"))).unwrap();
        for name in ["2.result", "3.tmp", "4.broken"] {
            occupied(name);
        }
        fs::write(at("4.result"), "not a result").unwrap();
        fs::write(at("5.result"), record::write(&report("b"))).unwrap();
        occupied("7.result");

        let (spool, left) = Spool::open(dir.path(), 1 << 20).unwrap();
        let mut ids = Vec::new();
        for kept in &left.kept {
            ids.push(kept.load().await.unwrap().update.task_id);
        }
        assert_eq!(ids, ["a", "b"]);
        assert!(left.broken.is_empty());
        let refused: Vec<_> = left.refused.iter().map(ToString::to_string).collect();
        assert_eq!(refused.len(), 4, "{refused:?}");
        for (said, name) in refused
            .iter()
            .zip(["2.result", "3.tmp", "4.result", "7.result"])
        {
            assert!(said.contains(at(name).to_str().unwrap()), "{said}");
        }
        assert_eq!(spool.trouble(), Some(Trouble::Broken));
        mended(&spool).await;
        let kept = spool.keep(&report("c")).await.unwrap();
        let number = number(&kept.path).unwrap();
        assert!(
            number > 7,
            "{number} may be the name of what could not be read"
        );
    }

    /// No file can be made below /proc; the folder is changed by a link.
    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_takes_nothing_at_the_start_is_no_error_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, sound) = (dir.path().join("spool"), dir.path().join("sound"));
        fs::create_dir(&sound).unwrap();
        std::os::unix::fs::symlink("/proc/self/fdinfo", &folder).unwrap();
        let (spool, left) = Spool::open(&folder, 1 << 20).unwrap();
        assert_eq!(left.refused.len(), 1, "{:?}", left.refused);
        assert_eq!(spool.trouble(), Some(Trouble::Broken));
        fs::remove_file(&folder).unwrap();
        std::os::unix::fs::symlink(&sound, &folder).unwrap();
        mended(&spool).await;
        spool.keep(&report("a")).await.unwrap();
    }

    #[tokio::test]
    async fn a_result_whose_folder_could_not_be_synced_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), 1 << 20).unwrap();
        let path = dir.path().join("1.result");
        let kept = spool
            .reserve(About::of(&report("a")), path.clone(), 7)
            .unwrap();
        let missing = dir.path().join("missing");
        let put = spool.put(kept, b"content".to_vec(), missing).await;
        assert!(matches!(put, Err(Error::Disk { .. })), "{put:?}");
        assert!(!path.exists());
        assert_eq!((spool.bytes(), spool.unremoved()), (0, 0));
        assert_eq!(spool.trouble(), Some(Trouble::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_removed_takes_its_room_and_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), 1 << 20).unwrap();
        let kept = spool.keep(&report("a")).await.unwrap();
        // A directory in its place stands for a file that cannot be removed.
        let (path, bytes) = (kept.path.clone(), kept.bytes);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        kept.remove().await;
        assert_eq!(
            (spool.results(), spool.unremoved(), spool.bytes()),
            (0, 1, bytes)
        );
        assert_eq!(spool.trouble(), Some(Trouble::Broken));
        let tended = async {
            fs::remove_dir(&path).unwrap();
            fs::write(&path, "").unwrap();
            while spool.unremoved() > 0 {
                tokio::time::sleep(PROBE).await;
            }
        };
        tokio::select! {
            tended = tokio::time::timeout(10 * PROBE, tended) => tended.unwrap(),
            never = spool.tend() => match never {},
        }
        assert!(!path.exists());
        assert_eq!(spool.bytes(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Spool::open(&file, 1).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
