//! The metadata of offerings and plans. It is free-form, but a marketplace that finds another type under a name that it knows
//! shows nothing, so the names of the Cloud Foundry profile are checked.

use anyhow::{Result, ensure};
use broker::osb::Object;
use serde_json::Value;

/// What a value must be.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Url,
    Flag,
    Texts,
    Costs,
}

const SERVICE: [(&str, Form); 7] = [
    ("displayName", Form::Text),
    ("imageUrl", Form::Url),
    ("longDescription", Form::Text),
    ("providerDisplayName", Form::Text),
    ("documentationUrl", Form::Url),
    ("supportUrl", Form::Url),
    ("shareable", Form::Flag),
];
const PLAN: [(&str, Form); 3] = [("displayName", Form::Text), ("bullets", Form::Texts), ("costs", Form::Costs)];

pub(super) fn check_service(place: &str, metadata: &Object) -> Result<()> {
    check(place, metadata, &SERVICE)
}

pub(super) fn check_plan(place: &str, metadata: &Object) -> Result<()> {
    check(place, metadata, &PLAN)
}

fn check(place: &str, metadata: &Object, names: &[(&str, Form)]) -> Result<()> {
    for (name, form) in names {
        let Some(value) = metadata.get(*name) else { continue };
        let (fits, form) = match form {
            Form::Text => (is_text(value), "a text that is not empty"),
            Form::Url => (is_url(value), "a URL that begins with https://, http:// or data:"),
            Form::Flag => (value.is_boolean(), "true or false"),
            Form::Texts => (is_list(value, is_text), "a list of texts"),
            Form::Costs => (is_list(value, is_cost), "a list of such as `{amount: {usd: 9.5}, unit: MONTHLY}`"),
        };
        ensure!(fits, "`metadata.{name}` of {place} must be {form}");
    }
    Ok(())
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

fn is_url(value: &Value) -> bool {
    let begins = |text: &str| ["https://", "http://", "data:"].iter().any(|scheme| text.starts_with(scheme));
    value.as_str().is_some_and(|text| begins(text) && !text.contains(char::is_whitespace))
}

fn is_list(value: &Value, fits: fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(fits))
}

/// An amount in at least one currency, and for what.
fn is_cost(value: &Value) -> bool {
    let Some(cost) = value.as_object() else { return false };
    let is_amount = |amount: &Value| amount.as_f64().is_some_and(|number| number >= 0.0);
    let has_amount = cost.get("amount").and_then(Value::as_object).is_some_and(|currencies| {
        !currencies.is_empty() && currencies.iter().all(|(name, amount)| !name.is_empty() && is_amount(amount))
    });
    has_amount && cost.get("unit").is_some_and(is_text) && cost.len() == 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_a_marketplace_knows_have_the_types_that_it_knows() {
        let good =
            json!({"bullets": ["a"], "costs": [{"amount": {"usd": 9.5, "eur": 9}, "unit": "MONTHLY"}], "own": [1]});
        check_plan("plan `p`", good.as_object().unwrap()).unwrap();
        for (metadata, words) in [
            (json!({"displayName": ""}), "`metadata.displayName` of plan `p` must be a text"),
            (json!({"bullets": "a"}), "`metadata.bullets` of plan `p` must be a list of texts"),
            (json!({"bullets": [1]}), "`metadata.bullets`"),
            (json!({"costs": {"amount": {"usd": 1}, "unit": "MONTHLY"}}), "`metadata.costs`"),
            (json!({"costs": [{"amount": 1, "unit": "MONTHLY"}]}), "`metadata.costs`"),
            (json!({"costs": [{"amount": {"usd": -1}, "unit": "MONTHLY"}]}), "`metadata.costs`"),
            (json!({"costs": [{"amount": {}, "unit": "MONTHLY"}]}), "`metadata.costs`"),
            (json!({"costs": [{"amount": {"usd": 1}}]}), "`metadata.costs`"),
        ] {
            let complaint = check_plan("plan `p`", metadata.as_object().unwrap()).unwrap_err().to_string();
            assert!(complaint.contains(words), "{metadata}: {complaint}");
        }
        for (metadata, words) in [
            (json!({"shareable": "yes"}), "`metadata.shareable` of service `s` must be true or false"),
            (json!({"imageUrl": "logo.png"}), "`metadata.imageUrl` of service `s` must be a URL"),
        ] {
            let complaint = check_service("service `s`", metadata.as_object().unwrap()).unwrap_err().to_string();
            assert!(complaint.contains(words), "{metadata}: {complaint}");
        }
    }
}
