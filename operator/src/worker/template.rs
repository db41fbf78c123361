//! What the user's pod template says to the operator.

use std::time::Duration;

use api::PodTemplate;
use runtime::grace;
use serde_json::Value;

use super::{
    Connection, Handler, InvalidSpec, Probe, Task,
    env::{CORDON_VOLUME, SPOOL_VOLUME, VOLUME},
};

/// The grace period where neither the template nor a task's timeout says one.
const GRACE: Duration = Duration::from_secs(600);

/// What no container of the pod may listen on.
const SIDECARS_PORTS: [u16; 2] = [api::SIDECAR_PORT, api::LOCAL_API_PORT];

/// The sidecar needs the last seconds of the grace period to hand back what is unfinished.
const LEAST_GRACE: i64 = 15;

pub(super) fn parse_handler(
    handler: &api::Handler,
    template: &PodTemplate,
) -> Result<Handler, InvalidSpec> {
    let api::Handler {
        container,
        port,
        payload,
        terminal_status_codes,
    } = handler;
    let containers = list(template, "containers");
    let Some(found) = (match container {
        Some(name) => containers.iter().find(|c| c["name"] == name.as_str()),
        None => containers.first(),
    }) else {
        let names: Vec<&str> = containers
            .iter()
            .filter_map(|c| c["name"].as_str())
            .collect();
        return Err(if names.is_empty() {
            InvalidSpec::new(
                "template.spec.containers",
                "write at least one container, with a name",
            )
        } else {
            InvalidSpec::new(
                "handler.container",
                format!(
                    "the template has no such container; write one of {}, or leave it out for the first one",
                    names.join(", ")
                ),
            )
        });
    };
    let Some(name) = found["name"].as_str().filter(|n| !n.is_empty()) else {
        return Err(InvalidSpec::new(
            "template.spec.containers",
            "give every container a name",
        ));
    };
    let port = match u16::try_from(*port) {
        Ok(port) if port != 0 && !SIDECARS_PORTS.contains(&port) => port,
        _ => {
            return Err(InvalidSpec::new(
                "handler.port",
                "write a port from 1 to 65535 other than 2112 and 2113, which are the sidecar's",
            ));
        }
    };
    let terminal_status_codes = terminal_status_codes
        .as_deref()
        .map(|codes| codes.iter().map(parse_codes).collect())
        .transpose()?;
    Ok(Handler {
        container: name.to_owned(),
        port,
        probe: probe(found, port),
        payload: *payload,
        terminal_status_codes,
    })
}

/// The operator's own volumes must not be the user's too.
pub(super) fn check_volumes(
    template: &PodTemplate,
    connection: &Connection,
) -> Result<(), InvalidSpec> {
    let own = connection.has_references().then_some(VOLUME);
    for name in own.into_iter().chain([SPOOL_VOLUME, CORDON_VOLUME]) {
        if list(template, "volumes").iter().any(|v| v["name"] == name) {
            return Err(InvalidSpec::new(
                "template.spec.volumes",
                format!("{name} is the volume that the operator adds; give yours another name"),
            ));
        }
    }
    Ok(())
}

fn parse_codes(codes: &api::StatusCodes) -> Result<String, InvalidSpec> {
    let text = match codes {
        api::StatusCodes::One(code) => code.to_string(),
        api::StatusCodes::Text(text) => text.clone(),
    };
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    match (from.parse::<u16>(), to.parse::<u16>()) {
        (Ok(from), Ok(to)) if from <= to && from >= 400 && to <= 599 => Ok(text),
        _ => Err(InvalidSpec::new(
            "handler.terminalStatusCodes",
            format!("{text:?}: write a status from 400 to 599 or a range of them, such as 400-407"),
        )),
    }
}

/// The sidecar asks what the kubelet asks, where it can: over loopback, without TLS.
fn probe(container: &Value, port: u16) -> Probe {
    let readiness = &container["readinessProbe"];
    let number = |value: &Value| -> Option<u16> {
        let number = match value {
            Value::Number(n) => n.as_u64()?,
            // A number as text is a number; another text is the name of a port.
            Value::String(s) => match s.parse() {
                Ok(n) => n,
                Err(_) => container["ports"]
                    .as_array()?
                    .iter()
                    .find(|p| p["name"] == s.as_str())?["containerPort"]
                    .as_u64()?,
            },
            _ => return None,
        };
        u16::try_from(number).ok().filter(|&n| n != 0)
    };
    let http = &readiness["httpGet"];
    let plain = http["scheme"].as_str().unwrap_or("HTTP") == "HTTP";
    if plain && let Some(port) = number(&http["port"]) {
        let path = http["path"].as_str().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        return Probe::Http {
            port,
            path: format!("{slash}{path}"),
        };
    }
    Probe::Tcp(number(&readiness["tcpSocket"]["port"]).unwrap_or(port))
}

/// What would break the contract between handler, sidecar and operator.
pub(super) fn check(template: &PodTemplate, handler: &Handler) -> Result<(), InvalidSpec> {
    let refuse =
        |field: &str, message: &str| Err(InvalidSpec::new(format!("template.{field}"), message));
    let spec = template.0.get("spec").unwrap_or(&Value::Null);
    if spec["hostNetwork"] == true {
        return refuse(
            "spec.hostNetwork",
            "must not be true: handler and sidecar talk over the pod's own loopback; remove it",
        );
    }
    if spec["restartPolicy"]
        .as_str()
        .is_some_and(|p| p != "Always")
    {
        return refuse("spec.restartPolicy", "must be Always; leave it out");
    }
    let label = template
        .0
        .get("metadata")
        .map_or(&Value::Null, |m| &m["labels"][crate::WORKER_LABEL]);
    if !label.is_null() {
        return refuse(
            "metadata.labels",
            "conductor-oss.org/worker is how the operator finds its pods; remove it",
        );
    }
    for list_name in ["containers", "initContainers"] {
        for container in list(template, list_name) {
            let name = container["name"].as_str().unwrap_or_default();
            if name == api::SIDECAR_CONTAINER {
                return refuse(
                    &format!("spec.{list_name}"),
                    "conductor-sidecar is the container that the operator adds; give yours another name",
                );
            }
            if name == handler.container
                && list_name == "containers"
                && !container["lifecycle"]["preStop"].is_null()
            {
                return refuse(
                    "spec.containers",
                    "the handler's container must not have lifecycle.preStop: the operator sets one that waits until no task runs; remove it, and let the handler finish on SIGTERM",
                );
            }
            let ports = container["ports"].as_array().map_or(&[][..], Vec::as_slice);
            if ports.iter().any(|p| {
                let port = &p["containerPort"];
                SIDECARS_PORTS.iter().any(|sidecars| port == sidecars)
            }) {
                return refuse(
                    &format!("spec.{list_name}"),
                    "ports 2112 and 2113 are the sidecar's; let the container listen on another",
                );
            }
        }
    }
    Ok(())
}

pub(super) fn parse_grace(template: &PodTemplate, tasks: &[Task]) -> Result<Duration, InvalidSpec> {
    const FIELD: &str = "template.spec.terminationGracePeriodSeconds";
    let written = template
        .0
        .get("spec")
        .map_or(&Value::Null, |s| &s["terminationGracePeriodSeconds"]);
    if written.is_null() {
        let longest = tasks.iter().filter_map(|t| t.timeout).max();
        let least = Duration::from_secs(LEAST_GRACE.unsigned_abs());
        return Ok(longest.map_or(GRACE, |longest| grace::for_tasks_of(longest).max(least)));
    }
    match written.as_i64() {
        Some(seconds) if seconds >= LEAST_GRACE => Ok(Duration::from_secs(seconds.unsigned_abs())),
        _ => Err(InvalidSpec::new(
            FIELD,
            "write at least 15 seconds: the last ones are for handing back what is unfinished",
        )),
    }
}

fn list<'a>(template: &'a PodTemplate, name: &str) -> &'a [Value] {
    template
        .0
        .get("spec")
        .and_then(|s| s[name].as_array())
        .map_or(&[], Vec::as_slice)
}
