//! The real Conductor, through the scripts in tests/cluster.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use anyhow::Context as _;
use tempfile::TempDir;

/// What Conductor keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// For load and timing.
    Redis,
    /// For function; start workflows one at a time.
    Sqlite,
    /// For function.
    Postgres,
}

impl Backend {
    /// Its name as the script wants it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A real Conductor. It ends when this is dropped, and also when the process ends in any
/// other way: a guard that starts it waits for the end of a pipe and takes it down.
#[derive(Debug)]
pub struct Conductor {
    base: String,
    guard: Child,
    data: TempDir,
}

/// How a real server is ended before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is asked to: SIGTERM.
    Asked,
    /// It is killed: SIGKILL.
    Killed,
}

/// Ups, says where, waits until nobody holds its standard input, downs and removes the data.
const GUARD: &str = r#""$0" up --backend "$1" --port 0 --data "$2" && cat >/dev/null
"$0" down --data "$2"
rm -rf "$2""#;

impl Conductor {
    /// Starts a server of its own and waits until it is healthy: 15 to 60 s. Gets what it
    /// needs first, where that is missing. Blocks.
    pub fn start(backend: Backend) -> anyhow::Result<Self> {
        get()?;
        let data = data_dir()?;
        let mut guard = Command::new("sh")
            .arg("-c")
            .arg(GUARD)
            .arg(scripts().join("conductor"))
            .arg(backend.as_str())
            .arg(data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not in our process group, so that Ctrl-C ends us and not the guard.
            .process_group(0)
            .spawn()
            .context("cannot run sh")?;
        let mut base = String::new();
        if let Some(stdout) = guard.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut base)?;
        }
        let conductor = Self {
            base: base.trim().to_owned(),
            guard,
            data,
        };
        anyhow::ensure!(
            !conductor.base.is_empty(),
            "the real Conductor did not start; what its script said is above"
        );
        Ok(conductor)
    }

    /// The API's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Ends the server, not what it keeps its data in, and starts it again at the same
    /// address; waits until it is healthy. Blocks.
    pub fn restart(&self, stop: Stop) -> anyhow::Result<()> {
        let signal = match stop {
            Stop::Asked => "TERM",
            Stop::Killed => "KILL",
        };
        let status = Command::new(scripts().join("conductor"))
            .args(["restart", "--signal", signal, "--data"])
            .arg(self.data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("cannot run tests/cluster/conductor")?;
        anyhow::ensure!(
            status.success(),
            "tests/cluster/conductor restart: {status}"
        );
        Ok(())
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Gets the server's jar, a Java, a Redis and a Postgres, where they are missing.
fn get() -> anyhow::Result<()> {
    static ONE_AT_A_TIME: Mutex<bool> = Mutex::new(false);
    let mut done = ONE_AT_A_TIME
        .lock()
        .map_err(|_| anyhow::anyhow!("what the real Conductor needs could not be got"))?;
    if !*done {
        let status = Command::new(scripts().join("get"))
            .arg("conductor")
            .stdout(Stdio::null())
            .status()
            .context("cannot run tests/cluster/get")?;
        anyhow::ensure!(status.success(), "tests/cluster/get conductor: {status}");
        *done = true;
    }
    Ok(())
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster")
}

/// In memory where that is possible: `SQLite` syncs to disk with every step.
fn data_dir() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        TempDir::with_prefix_in("conductor-", memory)
    } else {
        TempDir::with_prefix("conductor-")
    }
}
