//! Where the programs are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// One of our own programs: in the folder of this one.
pub fn beside(name: &str) -> Result<PathBuf> {
    let here = env::current_exe()?;
    let path = here.parent().context("no folder")?.join(name);
    anyhow::ensure!(
        path.exists(),
        "{} is missing; run `make bench`, which builds it",
        path.display()
    );
    Ok(path)
}

/// A program of another language: `workers/get` has installed it in the cache.
pub fn sdk(name: &str) -> Result<PathBuf> {
    let path = cache()?.join(name).join("run");
    anyhow::ensure!(
        path.exists(),
        "{} is missing; run tests/bench/workers/get {name}",
        path.display()
    );
    Ok(path)
}

/// Installs programs of other languages, or finds that they are there.
pub fn get(names: &[&str]) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("workers/get");
    let status = Command::new(&script).args(names).status()?;
    anyhow::ensure!(status.success(), "{} {names:?}: {status}", script.display());
    Ok(())
}

/// The project's cache outside the tree, as tests/cluster uses it.
fn cache() -> Result<PathBuf> {
    let cache = match env::var_os("CONDUCTOR_WORKER_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(env::var_os("HOME").context("set HOME")?).join(".cache/conductor-worker")
        }
    };
    Ok(cache.join("bench"))
}
