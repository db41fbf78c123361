//! What tells whether something has changed, after a restart and across versions of the operator:
//! SHA-256 (FIPS 180-4) of its JSON without spaces and with sorted keys, as `sha256:` and hex.

use api::ConductorWorkerSpec;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::Connection;

/// The fingerprint of a JSON value: the same for every order of its keys.
pub fn fingerprint(value: &Value) -> String {
    // serde_json's objects are sorted: its feature `preserve_order` is not used.
    let hash = digest(&SHA256, value.to_string().as_bytes());
    let hex = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", hex.collect::<String>())
}

/// The fingerprint of what a user decides about the pods: the spec as written, without what
/// decides their number alone. What the operator fills in is not in it, but for Conductor's
/// address: queues are read where tasks are taken from.
///
/// It must not change from one version of the operator to the next: a field that is new must be
/// left out where it is absent.
pub(super) fn of_spec(spec: &ConductorWorkerSpec, connection: &Connection) -> String {
    let ConductorWorkerSpec {
        connection: written,
        tasks,
        concurrency,
        handler,
        sidecar,
        scaling: _,
        replicas: _,
        suspend: _,
        template,
    } = spec;
    fingerprint(&json!({
        "connection": {"url": connection.to_string(), "written": written},
        "tasks": tasks,
        "concurrency": concurrency,
        "handler": handler.clone().unwrap_or_default(),
        "sidecar": sidecar.clone().unwrap_or_default(),
        "template": template,
    }))
}

#[cfg(test)]
mod tests {
    use conductor_client::ApiBase;

    use super::*;
    use crate::worker::{Defaults, Worker};

    fn spec() -> Value {
        json!({
            "connection": {
                "url": "http://conductor:8080",
                "authSecretRef": {"name": "keys"},
                "headers": {"X-Tenant": "shop"},
            },
            "tasks": [{"name": "greet", "domain": "gpu", "timeout": "10m", "pollInterval": "1s"}],
            "concurrency": 4,
            "handler": {"port": 9000, "terminalStatusCodes": [404, "410-420"]},
            "sidecar": {"spoolSize": "32Mi", "resources": {"requests": {"cpu": "20m"}}},
            "scaling": {"maxWait": "30s", "maxReplicas": 10},
            "template": {"spec": {"containers": [{"name": "app", "image": "greet:1"}]}},
        })
    }

    fn of(change: impl Fn(&mut Value)) -> String {
        let mut spec = spec();
        change(&mut spec);
        let defaults = Defaults {
            conductor_url: Some(ApiBase::parse("http://default:8080/api").unwrap()),
            sidecar_image: "sidecar:1".to_owned(),
            sidecar_image_pull_policy: "IfNotPresent".to_owned(),
        };
        let spec = serde_json::from_value(spec).unwrap();
        Worker::parse(&spec, &defaults).unwrap().fingerprint
    }

    #[test]
    fn it_stays_what_it_was_in_earlier_versions() {
        // Another value here lets an upgrade of the operator restart every worker of its users.
        assert_eq!(of(|_| {}), GOLDEN);
        assert_eq!(
            fingerprint(&json!({"b": [1, "x"], "a": null})),
            // printf '{"a":null,"b":[1,"x"]}' | sha256sum
            "sha256:c22cb7b0353770e2b38094af641143ebf008ddf2d1f2dedb9d875996fcf245fa"
        );
    }

    /// Of [`spec`], since fingerprints were introduced.
    const GOLDEN: &str = "sha256:9b91a3dc3eca8c695817de8ea1300b06ac292be7b02f04770151a6b2af331258";

    #[test]
    fn it_is_of_what_changes_pods_and_not_of_their_number() {
        for field in [
            ("scaling", json!({"mode": "External"})),
            ("replicas", json!(3)),
            ("suspend", json!(true)),
        ] {
            let changed = of(|spec| {
                spec[field.0] = field.1.clone();
                if field.0 != "suspend" {
                    spec["scaling"] = json!({"mode": "External"});
                    spec["replicas"] = json!(3);
                }
            });
            assert_eq!(changed, GOLDEN, "{}", field.0);
        }
        let changes: [&dyn Fn(&mut Value); 8] = [
            &|spec| spec["connection"]["url"] = json!("http://other:8080"),
            &|spec| spec["connection"]["authSecretRef"] = json!({"name": "other"}),
            &|spec| spec["tasks"][0]["timeout"] = json!("11m"),
            &|spec| spec["concurrency"] = json!(5),
            &|spec| spec["handler"]["payload"] = json!("Input"),
            &|spec| spec["sidecar"]["image"] = json!("own:1"),
            &|spec| spec["sidecar"]["logLevel"] = json!("debug"),
            &|spec| spec["template"]["metadata"] = json!({"labels": {"team": "shop"}}),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            assert_ne!(of(change), GOLDEN, "change {i}");
        }
        // Defaults that are written are no change.
        let without = |fields: &'static [&'static str]| {
            of(move |spec| {
                for field in fields {
                    spec[*field] = json!({});
                }
            })
        };
        let absent = of(|spec| {
            spec.as_object_mut().unwrap().remove("handler");
            spec.as_object_mut().unwrap().remove("sidecar");
        });
        assert_eq!(without(&["handler", "sidecar"]), absent);
    }
}
