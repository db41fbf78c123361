//! The cluster with everything in it that is compared.

use std::{
    cell::OnceCell,
    net::IpAddr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use cluster::{Bed, CHART, root};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// A running bed with our operator, the workers' images and, on demand, KEDA.
pub struct Stage {
    /// The cluster and its Conductor.
    pub bed: Bed,
    /// To watch it.
    pub kube: kube::Client,
    /// The address of this machine that pods reach.
    pub address: IpAddr,
    /// Conductor, as pods see it.
    pub conductor: String,
    keda: OnceCell<()>,
}

impl Stage {
    /// Starts what is missing. It must be a cluster of our own: a flag of its servers is
    /// changed, images are put in from files, and its pods must reach this machine.
    pub fn up() -> Result<Self> {
        let bed = Bed::up()?;
        let cluster = bed.fact("CONDUCTOR_WORKER_BED")?;
        ensure!(
            cluster == "own",
            "the bed is {cluster:?}, and only a cluster of our own will do: unset KUBECONFIG, become root, \
             and call this where no docker engine answers"
        );
        script("tests/live/images", &[])?;
        let conductor = bed.fact("CONDUCTOR_POD_URL")?.to_owned();
        let host = conductor.strip_prefix("http://");
        let host = host.and_then(|rest| rest.split([':', '/']).next());
        let address: IpAddr = host
            .unwrap_or_default()
            .parse()
            .with_context(|| format!("{conductor} has no address"))?;
        let file = bed.fact("KUBECONFIG")?.to_owned();
        let kube = bed.wait(async {
            let config = Kubeconfig::read_from(file)?;
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(config, &options).await?;
            anyhow::Ok(kube::Client::try_from(config)?)
        })?;
        bed.install(CHART, &[])?;
        Ok(Self {
            bed,
            kube,
            address,
            conductor,
            keda: OnceCell::new(),
        })
    }

    /// Installs KEDA, the first time.
    pub fn keda(&self) -> Result<()> {
        if self.keda.get().is_none() {
            script("tests/cluster/keda", &["up"])?;
            self.keda.get_or_init(|| ());
        }
        Ok(())
    }

    /// From now on HPAs are looked at so often.
    pub fn hpa_sync(&self, period: &str) -> Result<()> {
        script("tests/cluster/keda", &["hpa-sync", period])
    }
}

/// Runs a script of the project's; what it reports is for who watches.
fn script(path: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(root().join(path))
        .args(args)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("{path} could not be started"))?;
    ensure!(status.success(), "{path} {}: {status}", args.join(" "));
    Ok(())
}
