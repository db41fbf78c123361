//! The cluster, and the programs that talk to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use conductor_client::{ApiBase, Client};
use serde_json::Value;

use crate::repaired;

/// The operator's chart, from the repository's root.
pub const CHART: &str = "charts/conductor-worker-operator";

/// What the chart is installed as.
pub const RELEASE: &str = "conductor-worker-operator";

/// Where the operator is installed.
pub const OPERATOR: &str = "conductor-system";

/// A running cluster with our images in it, and a Conductor that its pods reach.
pub struct Bed {
    facts: BTreeMap<String, String>,
    /// Conductor as seen from here.
    pub conductor: Client,
    runtime: tokio::runtime::Runtime,
}

impl Bed {
    /// Starts what is missing, by `tests/cluster/bed up`.
    pub fn up() -> Result<Self> {
        runtime::install_tls_provider();
        let printed = script("bed", &["up"])?;
        let facts: BTreeMap<String, String> = printed
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        let url = facts
            .get("CONDUCTOR_URL")
            .context("bed up printed no CONDUCTOR_URL")?;
        let conductor = Client::new(ApiBase::parse(url)?)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Self {
            facts,
            conductor,
            runtime,
        })
    }

    /// Ends what `up` started; a cluster that was given is left as it is.
    pub fn down() -> Result<()> {
        script("bed", &["down"]).map(drop)
    }

    /// Copies the logs of everything to `folder`.
    pub fn logs(folder: &str) -> Result<()> {
        script("bed", &["logs", folder]).map(drop)
    }

    /// One of the lines that `bed up` printed.
    pub fn fact(&self, name: &str) -> Result<&str> {
        self.facts
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("bed up printed no {name}"))
    }

    /// The tasks that Conductor has queued again by itself, by their ids. Of a cluster that was given
    /// nothing is known.
    pub fn repaired(&self) -> Result<BTreeSet<String>> {
        let Some(log) = self.facts.get("CONDUCTOR_LOG") else {
            return Ok(BTreeSet::new());
        };
        let said = fs::read(log).with_context(|| format!("{log} cannot be read"))?;
        Ok(repaired(&String::from_utf8_lossy(&said)))
    }

    /// Runs a future to its end.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs kubectl; its output, or what it complained of.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.run("KUBECTL", args, None)
    }

    /// Runs kubectl with `input` on its standard input.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        self.run("KUBECTL", args, Some(input))
    }

    /// What kubectl prints as JSON.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], args].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("kubectl get {args:?} printed {text:?}"))
    }

    /// Runs helm.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        self.run("HELM", args, None)
    }

    /// An image of this project, as the cluster knows it.
    pub fn image(&self, name: &str) -> Result<String> {
        let (prefix, tag) = (self.fact("IMAGE_PREFIX")?, self.fact("IMAGE_TAG")?);
        Ok(format!("{prefix}/{name}:{tag}"))
    }

    /// `helm upgrade --install` of a chart of the operator, as a user would call it; `set` are
    /// more values for `--set`.
    pub fn install(&self, chart: &str, set: &[&str]) -> Result<()> {
        let (prefix, tag) = (self.fact("IMAGE_PREFIX")?, self.fact("IMAGE_TAG")?);
        let images = format!(
            "image.repository={prefix}/conductor-worker-operator,image.tag={tag},\
             sidecar.image.repository={prefix}/conductor-worker-sidecar,sidecar.image.tag={tag}"
        );
        let set = [&[&*images], set].concat().join(",");
        let release = ["upgrade", "--install", RELEASE, chart];
        let place = ["--namespace", OPERATOR, "--create-namespace"];
        let waiting = ["--set", &set, "--wait", "--timeout", "180s"];
        self.helm(&[&release[..], &place, &waiting].concat())
            .map(drop)
    }

    /// GETs a path of a pod's port through the API server.
    pub fn from_pod(&self, namespace: &str, pod: &str, port: u16, path: &str) -> Result<String> {
        let raw = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path}");
        self.kubectl(&["get", "--raw", &raw])
    }

    /// Runs kubectl until the answer is dropped, and keeps what it prints.
    pub fn follow(&self, args: &[&str]) -> Result<Follow> {
        let printed = tempfile::NamedTempFile::new()?;
        let child = Command::new(self.fact("KUBECTL")?)
            .args(args)
            .env("KUBECONFIG", self.fact("KUBECONFIG")?)
            .stdin(Stdio::null())
            .stdout(printed.reopen()?)
            .spawn()?;
        Ok(Follow { child, printed })
    }

    fn run(&self, program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(self.fact(program)?);
        command
            .args(args)
            .env("KUBECONFIG", self.fact("KUBECONFIG")?)
            .current_dir(root())
            .stderr(Stdio::piped());
        output(command, input)
            .with_context(|| format!("{} {}", program.to_lowercase(), args.join(" ")))
    }
}

/// A kubectl that goes on until this is dropped.
pub struct Follow {
    child: Child,
    printed: tempfile::NamedTempFile,
}

impl Follow {
    /// What it has printed; an error where it has ended by itself.
    pub fn printed(&mut self) -> Result<String> {
        if let Some(status) = self.child.try_wait()? {
            bail!("kubectl has ended: {status}");
        }
        Ok(std::fs::read_to_string(self.printed.path())?)
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // An error: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Asks again and again until there is an answer, for at most `bound`. An error is what is
/// said when there is none by then.
pub fn until<T>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + bound;
    loop {
        let answer = ask();
        if let Ok(Some(found)) = answer {
            return Ok(found);
        }
        if Instant::now() >= end {
            return match answer {
                Err(error) => Err(error.context(format!("not within {bound:?}: {what}"))),
                Ok(_) => bail!("not within {bound:?}: {what}"),
            };
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn script(name: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(root().join("tests/cluster").join(name));
    // What the script reports on its way is for who watches.
    command.args(args).stderr(Stdio::inherit());
    output(command, None).with_context(|| format!("tests/cluster/{name} {}", args.join(" ")))
}

fn output(mut command: Command, input: Option<&str>) -> Result<String> {
    command.stdout(Stdio::piped()).stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = command.spawn()?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    ensure!(
        done.status.success(),
        "{}: {}{}",
        done.status,
        err.trim(),
        out.trim()
    );
    Ok(out.into_owned())
}
