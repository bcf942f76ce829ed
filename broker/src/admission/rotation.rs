//! What a request for a binding asks for. One that names a predecessor asks for what that binding has, for a user of its own:
//! both are valid until the predecessor is removed.
//!
//! The specification has such a request say nothing else; some platforms send ids, application and parameters all the same.

use broker::osb::{BindRequest, Object};
use serde_json::{Value, json};

use super::bind_parameters::USERNAME;
use super::{BindingAttributes, BindingProgress, Denial, Known, KnownBinding};

const PREDECESSOR: &str = "predecessor_binding_id";
/// What the specification and Cloud Foundry's profile know of a resource.
const RESOURCE: [&str; 3] = ["app_guid", "route", "credential_client_id"];

/// What makes the wanted binding the same as another one.
pub(super) fn wanted(
    request: &BindRequest,
    instance: Option<&Known>,
    binding: Option<&KnownBinding>,
    predecessor: Option<&KnownBinding>,
) -> Result<BindingAttributes, Denial> {
    check_resource(request.bind_resource.as_ref())?;
    let Some(predecessor_id) = &request.predecessor_binding_id else { return plain(request) };
    let instance = instance.ok_or_else(|| Denial::NotFound("instance does not exist".into()))?;
    // A repeated request is known by its own binding, since the predecessor may be gone by now.
    let made = binding.map(|binding| &binding.attributes).filter(|made| made.rest[PREDECESSOR] == *predecessor_id);
    let created = predecessor.filter(|predecessor| predecessor.progress == BindingProgress::Created);
    let (plan_id, model) = match (made, created) {
        (Some(made), _) => (&made.plan_id, made),
        (None, Some(created)) => (&instance.attributes.plan_id, &created.attributes),
        (None, None) => {
            let text = format!("{PREDECESSOR} is not a binding of this service instance");
            return Err(Denial::Invalid(text));
        }
    };
    let mut parameters = model.parameters();
    // A name is of one user only, and the predecessor has it.
    parameters.remove(USERNAME);
    let given = request.parameters.as_ref().filter(|given| !given.is_empty());
    if given.is_some_and(|given| *given != parameters) {
        let text = format!(
            "a binding with {PREDECESSOR} has the parameters of its predecessor, without a username: leave them out"
        );
        return Err(Denial::Invalid(text));
    }
    let app_guid = request.app_guid.as_ref().map_or_else(|| model.rest["app_guid"].clone(), |guid| json!(guid));
    let bind_resource =
        request.bind_resource.as_ref().map_or_else(|| model.rest["bind_resource"].clone(), |resource| json!(resource));
    Ok(BindingAttributes {
        service_id: request.service_id.clone().unwrap_or_else(|| model.service_id.clone()),
        plan_id: request.plan_id.clone().unwrap_or_else(|| plan_id.clone()),
        rest: json!({
            "app_guid": app_guid, "bind_resource": bind_resource, "parameters": parameters, PREDECESSOR: predecessor_id,
        }),
    })
}

fn check_resource(resource: Option<&Object>) -> Result<(), Denial> {
    let is_text = |name: &&str| match resource.and_then(|resource| resource.get(*name)) {
        None | Some(Value::Null | Value::String(_)) => true,
        Some(_) => false,
    };
    let wrong = RESOURCE.into_iter().find(|name| !is_text(name));
    wrong.map_or(Ok(()), |name| Err(Denial::Invalid(format!("`bind_resource.{name}` must be a string"))))
}

fn plain(request: &BindRequest) -> Result<BindingAttributes, Denial> {
    for (name, value) in [("service_id", &request.service_id), ("plan_id", &request.plan_id)] {
        if value.is_none() {
            return Err(Denial::Invalid(format!("`{name}` is missing")));
        }
    }
    Ok(BindingAttributes::of(request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::{binding, known};
    use crate::admission::{Condition, KnownBinding};

    fn request(body: Value) -> BindRequest {
        serde_json::from_value(body).unwrap()
    }

    fn made(parameters: Value) -> KnownBinding {
        let body = json!({"service_id": "s", "plan_id": "p", "app_guid": "a", "parameters": parameters});
        let attributes = BindingAttributes::of(&request(body));
        KnownBinding { attributes, ..binding(BindingProgress::Created) }
    }

    #[test]
    fn a_successor_has_what_its_predecessor_has_but_for_the_name() {
        let instance = known(Condition::Ready);
        let old = made(json!({"username": "bob", "schema": "orders", "read-only": true}));
        let rest = json!({
            "app_guid": "a", "bind_resource": {}, "parameters": {"schema": "orders", "read-only": true},
            "predecessor_binding_id": "old",
        });
        for body in [
            json!({}),
            json!({"app_guid": "a", "bind_resource": {}, "parameters": {}}),
            json!({"parameters": {"schema": "orders", "read-only": true}}),
            json!({"service_id": "s", "plan_id": instance.attributes.plan_id}),
        ] {
            let mut body = body;
            body["predecessor_binding_id"] = json!("old");
            let wanted = wanted(&request(body.clone()), Some(&instance), None, Some(&old)).unwrap();
            assert_eq!((wanted.service_id.as_str(), &wanted.rest), ("s", &rest), "{body}");
            assert_eq!(wanted.plan_id, instance.attributes.plan_id, "{body}");
            // Once more, when the predecessor is gone.
            let successor = KnownBinding { attributes: wanted.clone(), ..binding(BindingProgress::Created) };
            let again = super::wanted(&request(body.clone()), Some(&instance), Some(&successor), None);
            assert_eq!(again, Ok(wanted), "{body}");
        }
    }

    #[test]
    fn a_predecessor_must_be_a_binding_of_the_instance_and_its_parameters_stay() {
        let instance = known(Condition::Ready);
        let old = made(json!({"username": "bob"}));
        let going = KnownBinding { progress: BindingProgress::Deleting, ..made(json!({})) };
        let unfinished = KnownBinding { progress: BindingProgress::Creating, ..made(json!({})) };
        for (body, predecessor, words) in [
            (json!({}), None, "is not a binding of this service instance"),
            (json!({}), Some(&going), "is not a binding of this service instance"),
            (json!({}), Some(&unfinished), "is not a binding of this service instance"),
            (json!({"parameters": {"read-only": true}}), Some(&old), "has the parameters of its predecessor"),
            (json!({"parameters": {"username": "bob"}}), Some(&old), "without a username"),
        ] {
            let mut body = body;
            body["predecessor_binding_id"] = json!("old");
            match wanted(&request(body.clone()), Some(&instance), None, predecessor) {
                Err(Denial::Invalid(text)) => assert!(text.contains(words), "{body}: {text}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn without_a_predecessor_the_ids_are_required() {
        for (body, words) in
            [(json!({"plan_id": "p"}), "`service_id` is missing"), (json!({"service_id": "s"}), "`plan_id` is missing")]
        {
            match wanted(&request(body), None, None, None) {
                Err(Denial::Invalid(text)) => assert!(text.contains(words), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
