//! The user's pod template, kept as written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A pod template as raw JSON: what the user wrote goes to the Deployment as it is, fields of
/// newer Kubernetes versions included. Its schema names only what the rules look at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Map<String, Value>);

impl JsonSchema for PodTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let container = json_schema!({
            "type": "object",
            "required": ["name"],
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {
                "name": {"type": "string", "maxLength": 63},
                "lifecycle": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "preStop": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                },
                "ports": {
                    "type": "array",
                    "maxItems": 64,
                    "items": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {
                            "name": {"type": "string", "maxLength": 63},
                            "containerPort": {"type": "integer", "format": "int32"},
                        },
                    },
                },
            },
        });
        let containers = |least: u32| {
            json_schema!({
                "type": "array",
                "minItems": least,
                "maxItems": 32,
                "items": container,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            })
        };
        json_schema!({
            "type": "object",
            "required": ["spec"],
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {
                "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "spec": {
                    "type": "object",
                    "required": ["containers"],
                    "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {
                        "hostNetwork": {"type": "boolean"},
                        "restartPolicy": {"type": "string", "maxLength": 16},
                        "terminationGracePeriodSeconds": {"type": "integer", "format": "int64"},
                        "containers": containers(1),
                        "initContainers": containers(0),
                    },
                },
            },
        })
    }
}
