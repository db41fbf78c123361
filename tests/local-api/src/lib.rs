//! Programs on Conductor's official SDK clients, built from pinned lock files. What is fetched
//! and built is kept below `CONDUCTOR_WORKER_CACHE` (`~/.cache/conductor-worker`), under the hash
//! of what it is made from.

use std::{
    collections::hash_map::DefaultHasher,
    ffi::OsStr,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{process::Command, time::timeout};

/// For a download and a build.
const BUILD: Duration = Duration::from_secs(300);

/// The client on the Go SDK, ready to be given its arguments.
pub async fn go() -> Result<Command> {
    const NEEDS: &str = "a Go toolchain of 1.21 or newer is needed: put `go` on the PATH";
    let sources = here().join("clients/go");
    let version = said(Command::new("go").arg("version"), NEEDS).await?;
    let files = ["go.mod", "go.sum", "main.go"].map(|name| sources.join(name));
    let home = cached("go", &version, &files)?;
    if !home.exists() {
        let folder = fresh(&home)?;
        let mut build = Command::new("go");
        build.args(["build", "-mod=readonly", "-o"]);
        build
            .arg(folder.path().join("client"))
            .arg(".")
            .current_dir(&sources);
        ran(&mut build, "the Go client was not built").await?;
        keep(folder, &home)?;
    }
    Ok(Command::new(home.join("client")))
}

/// The client on the Python SDK, ready to be given its arguments.
pub async fn python() -> Result<Command> {
    const NEEDS: &str = "Python 3.10 or newer with pip is needed: install python3 and python3-pip";
    let sources = here().join("clients/python");
    let requirements = sources.join("requirements.txt");
    let version = said(Command::new("python3").arg("--version"), NEEDS).await?;
    let home = cached("python", &version, std::slice::from_ref(&requirements))?;
    if !home.exists() {
        said(
            Command::new("python3").args(["-m", "pip", "--version"]),
            NEEDS,
        )
        .await?;
        let folder = fresh(&home)?;
        let mut install = Command::new("python3");
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]);
        install.args(["--require-hashes", "--only-binary", ":all:", "--target"]);
        install
            .arg(folder.path())
            .arg("--requirement")
            .arg(&requirements);
        ran(&mut install, "the Python client was not installed").await?;
        keep(folder, &home)?;
    }
    let mut client = Command::new("python3");
    client
        .arg(sources.join("client.py"))
        .env("PYTHONPATH", home);
    Ok(client)
}

/// The sidecar's own program, built as these tests are.
pub async fn sidecar() -> Result<Command> {
    let program = std::env::current_exe()?;
    // target/debug/deps/clients-…
    let profile = program.ancestors().nth(2).context("no target folder")?;
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "worker-sidecar"]);
    if profile.file_name() == Some(OsStr::new("release")) {
        build.arg("--release");
    }
    ran(&mut build, "the sidecar was not built").await?;
    let mut sidecar = Command::new(profile.join("worker-sidecar"));
    sidecar.env_clear().kill_on_drop(true);
    Ok(sidecar)
}

/// Runs a command to its end; its standard output.
pub async fn ran(command: &mut Command, otherwise: &str) -> Result<String> {
    let ended = output(command).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, status) = (text(&ended.stdout), ended.status);
    ensure!(
        status.success(),
        "{otherwise} ({status}): {printed}{}",
        text(&ended.stderr)
    );
    Ok(printed)
}

async fn output(command: &mut Command) -> Result<Output> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = timeout(BUILD, command.output()).await;
    let ended = ended.with_context(|| format!("{command:?} took longer than {BUILD:?}"))?;
    ended.with_context(|| format!("{command:?}"))
}

/// What a tool says of itself; without it, what is needed.
async fn said(tool: &mut Command, needs: &str) -> Result<String> {
    match output(tool).await {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => bail!(
            "{needs} ({})",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => Err(error.context(needs.to_owned())),
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where something made by a tool of this version from these files is kept.
fn cached(name: &str, version: &str, files: &[PathBuf]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    for file in files {
        let content = std::fs::read(file).with_context(|| file.display().to_string())?;
        content.hash(&mut hasher);
    }
    let given = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = given("CONDUCTOR_WORKER_CACHE")
        .or_else(|| Some(given("XDG_CACHE_HOME")?.join("conductor-worker")))
        .or_else(|| Some(given("HOME")?.join(".cache/conductor-worker")))
        .context("nowhere to keep what is built: set CONDUCTOR_WORKER_CACHE")?;
    let folder = cache.join("clients");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder.join(format!("{name}-{:016x}", hasher.finish())))
}

/// A new folder beside its destination, so that what is there is complete.
fn fresh(destination: &Path) -> Result<tempfile::TempDir> {
    let parent = destination.parent().context("no parent folder")?;
    Ok(tempfile::tempdir_in(parent)?)
}

fn keep(folder: tempfile::TempDir, destination: &Path) -> Result<()> {
    let made = folder.keep();
    match std::fs::rename(&made, destination) {
        // Somebody else was faster.
        Err(_) if destination.exists() => Ok(std::fs::remove_dir_all(&made)?),
        other => other.with_context(|| destination.display().to_string()),
    }
}
