//! What users may configure, as JSON schemas (draft 4), which platforms show and check before they ask. A parameter that is
//! not in these lists is not an option: the parsers ask here, so that no schema refuses what a parser would take.

use agent::api::{NAME_LIMIT, SCHEMA_LIMIT};
use serde_json::{Map, Value, json};

use super::parameters::{LONGEST_ACK_TIMEOUT_MS, Workload, texts};
use crate::catalog::{ReplicationMode, Topology};

const DRAFT: &str = "http://json-schema.org/draft-04/schema#";

/// One parameter.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    description: &'static str,
    form: Form,
}

/// What a value must be.
#[derive(Clone)]
enum Form {
    Words(Vec<&'static str>),
    /// Of one character set; there are too many to list.
    Collation,
    /// From the one to the other.
    Integer(u64, u64),
    Flag,
    /// So many of these characters at most, and one at least; names that are the server's own are refused all the same.
    Name(usize, &'static str),
}

/// The parameters of an instance of this topology.
pub(crate) fn of_instance(topology: Topology) -> Vec<Parameter> {
    let mut parameters = of_server();
    match topology {
        Topology::SingleNode => {}
        Topology::LeaderFollower => parameters.extend([
            Parameter {
                name: "replication_mode",
                description: "What a commit waits for: nothing, or the follower's receipt",
                form: Form::Words(ReplicationMode::ALL.map(ReplicationMode::name).to_vec()),
            },
            Parameter {
                name: "semi_sync_ack_timeout_in_ms",
                description: "How long a commit waits for the follower's receipt before it goes on without one, in milliseconds",
                form: Form::Integer(1, LONGEST_ACK_TIMEOUT_MS),
            },
        ]),
    }
    parameters
}

fn of_server() -> Vec<Parameter> {
    vec![
        Parameter {
            name: "workload",
            description: "What the servers are mostly used for",
            form: Form::Words(Workload::ALL.map(Workload::name).to_vec()),
        },
        Parameter {
            name: "default-charset",
            description: "The character set of new schemas",
            form: Form::Words(std::iter::once("utf8").chain(texts::charsets()).collect()),
        },
        Parameter {
            name: "default-collation",
            description: "The collation of new schemas, one of the character set",
            form: Form::Collation,
        },
        Parameter {
            name: "enable_lower_case_table_names",
            description: "Whether names of schemas and tables are kept in lower case, for the life of the instance",
            form: Form::Flag,
        },
        Parameter {
            name: "optimize_for_short_words",
            description: "Whether full text search finds words of one character",
            form: Form::Flag,
        },
    ]
}

/// The parameters of a binding.
pub(crate) fn of_binding() -> Vec<Parameter> {
    vec![
        Parameter { name: "read-only", description: "Whether the binding's user may only read", form: Form::Flag },
        Parameter {
            name: "username",
            description: "The name of the binding's user",
            form: Form::Name(NAME_LIMIT, "A-Za-z0-9_$-"),
        },
        Parameter {
            name: "schema",
            description: "The schema that the binding's user works in",
            form: Form::Name(SCHEMA_LIMIT, "A-Za-z0-9_$"),
        },
    ]
}

/// Whether there is a parameter of this name.
pub(crate) fn has(parameters: &[Parameter], name: &str) -> bool {
    parameters.iter().any(|parameter| parameter.name == name)
}

/// The schema of the parameters that something is made with.
pub(crate) fn create(parameters: &[Parameter]) -> Map<String, Value> {
    schema(parameters, Parameter::schema)
}

/// The same for a change, where `null` gives a parameter back to the plan.
pub(crate) fn update(parameters: &[Parameter]) -> Map<String, Value> {
    schema(parameters, |parameter| {
        let mut schema = parameter.schema();
        schema["type"] = json!([schema["type"], "null"]);
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
        schema
    })
}

fn schema(parameters: &[Parameter], describe: impl Fn(&Parameter) -> Value) -> Map<String, Value> {
    let properties: Map<String, Value> =
        parameters.iter().map(|parameter| (parameter.name.to_owned(), describe(parameter))).collect();
    let schema = [
        ("$schema", DRAFT.into()),
        ("type", "object".into()),
        ("additionalProperties", false.into()),
        ("properties", properties.into()),
    ];
    schema.into_iter().map(|(name, value): (&str, Value)| (name.to_owned(), value)).collect()
}

impl Parameter {
    fn schema(&self) -> Value {
        let description = self.description;
        match &self.form {
            Form::Words(words) => json!({"description": description, "type": "string", "enum": words}),
            Form::Collation => json!({"description": description, "type": "string", "pattern": "^[a-z0-9_]+$"}),
            Form::Integer(least, most) => {
                json!({"description": description, "type": "integer", "minimum": least, "maximum": most})
            }
            Form::Flag => json!({"description": description, "type": "boolean"}),
            Form::Name(most, characters) => {
                let pattern = format!("^[{characters}]{{1,{most}}}$");
                json!({"description": description, "type": "string", "pattern": pattern})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bind_parameters::BindParameters;
    use super::super::parameters::Parameters;
    use super::*;

    /// Values that the schema takes, and values that it does not.
    fn samples(form: &Form) -> (Vec<Value>, Vec<Value>) {
        let (good, mut bad) = match form {
            Form::Words(words) => {
                (words.iter().map(|word| json!(word)).collect(), vec![json!("no such word"), json!(1)])
            }
            Form::Collation => {
                (vec![json!("utf8mb4_bin"), json!("utf8_general_ci")], vec![json!("no such word"), json!(1)])
            }
            Form::Integer(least, most) => {
                (vec![json!(least), json!(most)], vec![json!(least - 1), json!(most + 1), json!("1"), json!(1.5)])
            }
            Form::Flag => (vec![json!(true), json!(false)], vec![json!("true"), json!(1)]),
            Form::Name(most, _) => {
                let name = |length: usize| json!("aZ0_$".repeat(length)[..length]);
                (vec![name(1), name(*most)], vec![name(most + 1), json!("a'b"), json!("a b"), json!(1)])
            }
        };
        bad.extend([json!(null), json!([]), json!({}), json!("")]);
        (good, bad)
    }

    fn check(parameters: &[Parameter], takes: impl Fn(&Map<String, Value>) -> bool) {
        for Parameter { name, form, .. } in parameters {
            let given = |value: &Value| [((*name).to_owned(), value.clone())].into_iter().collect();
            let (good, bad) = samples(form);
            assert!(good.iter().all(|value| takes(&given(value))), "{name}: the schema takes what the parser does not");
            assert!(!bad.iter().any(|value| takes(&given(value))), "{name}: the parser takes what the schema does not");
        }
    }

    #[test]
    fn schemas_and_parsers_take_the_same() {
        for topology in [Topology::SingleNode, Topology::LeaderFollower] {
            check(&of_instance(topology), |given| Parameters::parse(topology, given).is_ok());
        }
        check(&of_binding(), |given| BindParameters::parse(given).is_ok());
    }

    #[test]
    fn schemas_are_draft_4_closed_and_small() {
        for parameters in [of_instance(Topology::SingleNode), of_instance(Topology::LeaderFollower), of_binding()] {
            for schema in [create(&parameters), update(&parameters)] {
                assert_eq!(schema["$schema"], DRAFT);
                assert_eq!(schema["additionalProperties"], false);
                let text = Value::Object(schema).to_string();
                assert!(text.len() < 64_000 && !text.contains("$ref"), "{text}");
            }
        }
        let changed = Value::Object(update(&of_instance(Topology::LeaderFollower)));
        let mode = &changed["properties"]["replication_mode"];
        assert_eq!((&mode["type"], &mode["enum"]), (&json!(["string", "null"]), &json!(["async", "semi-sync", null])));
    }
}
