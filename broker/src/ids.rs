//! The ids of things. Those of the platform's choosing become parts of deployment names, paths and context ids, so they
//! are checked before they become an id.

/// The longest id that is taken: a deployment name must stay a name everywhere.
const LENGTH_LIMIT: usize = 50;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub(crate) struct $name(String);

        impl $name {
            /// Nothing where the text cannot be an id.
            pub(crate) fn parse(text: &str) -> Option<$name> {
                is_id(text).then(|| $name(text.to_owned()))
            }

            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// A service instance, named by the platform.
    InstanceId
}
id! {
    /// A binding of a service instance, named by the platform.
    BindingId
}
id! {
    /// An operation on a service instance, named by us; the director's context id.
    OperationId
}

/// What an id may look like, for error texts.
pub(crate) const RULE: &str = "1 to 50 letters, digits, `.`, `_`, `~` or `-`, but neither `.` nor `..`";

impl OperationId {
    /// The id of a new operation.
    pub(crate) fn new(random: uuid::Uuid) -> OperationId {
        OperationId(random.to_string())
    }
}

fn is_id(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
    // A path with one of the latter as a segment is another path to whoever passes it on.
    (1..=LENGTH_LIMIT).contains(&text.len()) && text.bytes().all(is_unreserved) && !matches!(text, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unreserved_characters_of_a_bounded_number() {
        for good in ["a", "0e6a1f52-9d0c-4c5e-8a41-6a1f6c0b7d21", "A._~-9", "...", &"x".repeat(50)] {
            assert!(InstanceId::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "%2e", &"x".repeat(51)] {
            assert!(InstanceId::parse(bad).is_none(), "{bad}");
        }
    }
}
